"""The rules of Chromium's offline game, update by update and bit by bit; knows no pixels and no gymnasium.

Every constant, the order inside an update and the order of the random draws are those of Chromium 156
(`components/neterror/resources/dino_game`), so that the same seed and the same keys give the same doubles as the
browser does. Arithmetic is written in the browser's order of operations on purpose: `a * b / c` is not `a * (b / c)`.
Lengths are pixels of the 600 x 150 world, y grows downwards, velocities are pixels per update, times milliseconds.
"""

from __future__ import annotations

import enum
import math

from gamengen.envs.chrome_dino.obstacles import (
    DT,
    OBSTACLE_TYPES,
    WORLD_WIDTH,
    Box,
    Mulberry32,
    Obstacle,
    ObstacleType,
    js_round,
    overlap,
)

WORLD_HEIGHT = 150
UPDATES_PER_SECOND = 60
NONE, JUMP, DUCK = 0, 1, 2  # the actions, in the order of the GameSpec

TREX_X, TREX_WIDTH, TREX_HEIGHT, TREX_DUCK_WIDTH = 25, 44, 47, 59
GROUND_Y = 93  # y of the T-rex that stands: 150 - 47 - 10
START_SPEED, MAX_SPEED, ACCELERATION = 6.001, 13, 0.001  # a restart runs one update of zero length: 6 -> 6.001
GRAVITY, JUMP_VELOCITY, DROP_VELOCITY, SPEED_DROP_FACTOR = 0.6, -10, -5, 3
MIN_JUMP_Y, MAX_JUMP_Y = 63, 30
CLEAR_TIME = 3000  # no obstacles before
GROUND_TOP, GROUND_WIDTH = 127, 600
CLOUD_WIDTH, MAX_CLOUDS = 46, 6
NIGHT_SCORE, NIGHT_LENGTH, NIGHT_FADE = 700, 12000, 0.035
NUM_MOON_PHASES, MOON_SPEED, MOON_Y, STAR_SPEED = 7, 0.25, 30, 0.3
SKY_WIDTH = 150  # moon and stars wrap at the canvas *height*: a slip in Chromium that we keep
SCORE_PER_PIXEL, FLASH_EVERY, FLASH_MS, NUM_FLASHES = 0.025, 100, 250, 4


class Status(enum.IntEnum):
    """What the T-rex is seen doing, with Chromium's numbers."""

    CRASHED = 0
    DUCKING = 1
    JUMPING = 2
    RUNNING = 3


MS_PER_FRAME = {Status.CRASHED: DT, Status.DUCKING: 1000 / 8, Status.JUMPING: DT, Status.RUNNING: 1000 / 12}
NUM_FRAMES = {Status.CRASHED: 1, Status.DUCKING: 2, Status.JUMPING: 1, Status.RUNNING: 2}

TREX_BOXES: tuple[Box, ...] = (
    (22, 0, 17, 16), (1, 18, 30, 9), (10, 35, 14, 8), (1, 24, 29, 5), (5, 30, 21, 4), (9, 34, 15, 4),
)  # fmt: skip
TREX_DUCK_BOXES: tuple[Box, ...] = ((1, 18, 55, 25),)


class Game:
    """One game, from the canonical start (a restart, before the first update) to the crash.

    `hold` sets the held key, `update` advances 1/60 s. Attributes are the state; only this class changes them. An
    immortal game goes on through what it hits (`hit`), for comparisons at every speed.
    """

    def __init__(self, seed: int = 0, immortal: bool = False) -> None:
        self._immortal = immortal
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Go back to the canonical start with the generator at mulberry32(seed)."""
        self.rng = Mulberry32(seed)
        self.speed, self.distance, self.running_time = START_SPEED, 0.0, 0.0
        self.hit = self.crashed = False
        self.held = NONE
        self.x, self.y, self.velocity = TREX_X, GROUND_Y, 0.0
        self.jumping = self.ducking = self.speed_drop = self.reached_min_height = False
        self.status, self.timer, self.next_frame, self.frame = Status.RUNNING, 0.0, 0, 0
        self.obstacles: list[Obstacle] = []
        self.history: list[ObstacleType] = []  # the last two kinds, newest first
        self.clouds = [[WORLD_WIDTH, 71, 118]]  # [x, y, gap]
        self.ground_x, self.ground_bumpy = [0, GROUND_WIDTH], [False, True]
        self.night, self.night_timer, self.night_opacity = False, 0.0, 0.0
        self.moon_x, self.moon_phase = 0.0, 0
        self.stars = [[0.0, 0], [0.0, 0]]  # [x, y]; placed when the night begins
        self._star_state = self.rng.state
        self.digits: str = "00000"  # the score as displayed; it stands still while it flashes
        self.digits_shown = True
        self.flashing, self.flash_timer, self.num_flashes = False, 0.0, 0

    @property
    def score(self) -> int:
        """The score: 40 pixels per point."""
        return js_round(math.ceil(self.distance) * SCORE_PER_PIXEL)

    def hold(self, action: int) -> None:
        """Hold the key of `action`: where it changes, the old key is released first, then the new one pressed."""
        held = self.held
        if action == held:
            return
        self.held = action
        if held == JUMP:
            self._end_jump()
        elif held == DUCK:
            self.speed_drop = False
            self._set_duck(False)
        if action == JUMP:
            if not self.jumping and not self.ducking:
                self._start_jump()
        elif action == DUCK:
            if self.jumping:
                self.speed_drop, self.velocity = True, 1.0
            elif not self.ducking:
                self._set_duck(True)

    def update(self) -> None:
        """Advance 1/60 s; on the update of the crash `crashed` becomes True."""
        assert not self.crashed, "update() after the crash"
        if self.jumping:
            self._update_jump()
        self.running_time += DT
        self._update_ground()
        self._update_night_sky()
        self._update_clouds()
        if self.running_time > CLEAR_TIME:
            self._update_obstacles()
            self.hit = self.hits(self.obstacles[0])  # there is always one
            self.crashed = self.hit and not self._immortal
        if self.crashed:
            self.flashing = False
            self._animate(100, Status.CRASHED)
        else:
            self.distance += self.speed * DT / DT
            if self.speed < MAX_SPEED:
                self.speed += ACCELERATION
        score = self.score
        self._update_digits(score)
        self._update_night(score)
        if not self.crashed:
            self._animate(DT)

    def hits(self, obstacle: Obstacle) -> bool:
        """Return whether the T-rex touches an obstacle: outer boxes first, then part by part."""
        left, top = self.x + 1, self.y + 1
        x, y = obstacle.x + 1, obstacle.y + 1
        outer = (0, 0, TREX_WIDTH - 2, TREX_HEIGHT - 2)
        if not overlap(left, top, outer, x, y, (0, 0, obstacle.width - 2, obstacle.kind.height - 2)):
            return False
        parts = TREX_DUCK_BOXES if self.ducking else TREX_BOXES
        return any(overlap(left, top, part, x, y, box) for part in parts for box in obstacle.boxes)

    # ---- the T-rex

    def _start_jump(self) -> None:
        self._animate(0, Status.JUMPING)
        self.velocity = JUMP_VELOCITY - self.speed / 10
        self.jumping = True
        self.reached_min_height = self.speed_drop = False

    def _end_jump(self) -> None:
        if self.reached_min_height and self.velocity < DROP_VELOCITY:
            self.velocity = DROP_VELOCITY

    def _update_jump(self) -> None:
        # 1 while JUMPING; less where a speed drop stops exactly on the ground line and goes on as a duck
        elapsed = DT / MS_PER_FRAME[self.status]
        if self.speed_drop:
            self.y += js_round(self.velocity * SPEED_DROP_FACTOR * elapsed)
        else:
            self.y += js_round(self.velocity * elapsed)
        self.velocity += GRAVITY * elapsed
        if self.y < MIN_JUMP_Y or self.speed_drop:
            self.reached_min_height = True
        if self.y < MAX_JUMP_Y or self.speed_drop:
            self._end_jump()
        if self.y > GROUND_Y:
            self.y, self.velocity = GROUND_Y, 0.0
            self.jumping = self.ducking = False
            self._animate(0, Status.RUNNING)
            self.speed_drop = False

    def _set_duck(self, ducking: bool) -> None:
        if ducking and self.status != Status.DUCKING:
            self._animate(0, Status.DUCKING)
            self.ducking = True
        elif self.status == Status.DUCKING:
            self._animate(0, Status.RUNNING)
            self.ducking = False

    def _animate(self, elapsed: float, status: Status | None = None) -> None:
        self.timer += elapsed  # not reset when the status changes: as in Chromium
        if status is not None:
            self.status, self.next_frame = status, 0
        self.frame = self.next_frame  # this one is seen
        if self.timer >= MS_PER_FRAME[self.status]:
            self.next_frame = (self.next_frame + 1) % NUM_FRAMES[self.status]
            self.timer = 0.0
        if self.speed_drop and self.y == GROUND_Y:
            self.speed_drop = False
            self._set_duck(True)

    # ---- the world

    def _update_ground(self) -> None:
        first = 0 if self.ground_x[0] <= 0 else 1
        x = self.ground_x[first] - math.floor(self.speed * (60 / 1000) * DT)
        self.ground_x[1 - first] = x + GROUND_WIDTH
        if x <= -GROUND_WIDTH:
            x += 2 * GROUND_WIDTH
            self.ground_x[1 - first] = x - GROUND_WIDTH
            self.ground_bumpy[first] = self.rng.random() > 0.5
        self.ground_x[first] = x

    def _update_night_sky(self) -> None:
        if self.night and self.night_opacity == 0:
            self.moon_phase = (self.moon_phase + 1) % NUM_MOON_PHASES
            self._place_stars()
        if self.night and self.night_opacity < 1:
            self.night_opacity += NIGHT_FADE
        elif self.night_opacity > 0:
            self.night_opacity -= NIGHT_FADE
        if self.night_opacity > 0:
            self.moon_x = _drift(self.moon_x, MOON_SPEED)
            for star in self.stars:
                star[0] = _drift(star[0], STAR_SPEED)
        else:  # Chromium places both stars anew at every update of the day; only the last places are ever seen
            self.night_opacity = 0.0
            self._star_state = self.rng.state
            self.rng.skip(4)

    def _place_stars(self) -> None:
        rng = Mulberry32(self._star_state)
        half = SKY_WIDTH // 2
        self.stars = [[float(rng.integer(half * i, half * (i + 1))), rng.integer(0, 70)] for i in range(2)]

    def _update_clouds(self) -> None:
        clouds = self.clouds
        if not clouds:
            self._add_cloud()
            return
        for cloud in clouds:
            cloud[0] -= math.ceil(0.2 / 1000 * DT * self.speed)
        last = clouds[-1]
        if len(clouds) < MAX_CLOUDS and WORLD_WIDTH - last[0] > last[2] and self.rng.random() < 0.5:
            self._add_cloud()
        if clouds[0][0] + CLOUD_WIDTH <= 0:
            self.clouds = [cloud for cloud in clouds if cloud[0] + CLOUD_WIDTH > 0]

    def _add_cloud(self) -> None:
        gap = self.rng.integer(100, 400)
        self.clouds.append([WORLD_WIDTH, self.rng.integer(30, 71), gap])

    def _update_obstacles(self) -> None:
        left = list(self.obstacles)
        for obstacle in self.obstacles:
            if obstacle.x + obstacle.width > 0:
                obstacle.update(self.speed)
            if obstacle.x + obstacle.width <= 0:
                left.pop(0)
        self.obstacles = left
        if not left:
            self._add_obstacle()
            return
        last = left[-1]
        end = last.x + last.width
        if not last.followed and end > 0 and end + last.gap < WORLD_WIDTH:
            self._add_obstacle()
            last.followed = True

    def _add_obstacle(self) -> None:
        while True:
            kind = OBSTACLE_TYPES[self.rng.integer(0, 2)]
            if self.history != [kind, kind] and self.speed >= kind.min_speed:
                break
        self.obstacles.append(Obstacle(kind, self.speed, self.rng))
        self.history = [kind, *self.history[:1]]

    # ---- score and night

    def _update_digits(self, score: int) -> None:
        self.digits_shown = True
        if not self.flashing:
            self.digits = f"{score:05d}"
            if score > 0 and score % FLASH_EVERY == 0:
                self.flashing, self.flash_timer = True, 0.0
        elif self.num_flashes < NUM_FLASHES:
            self.flash_timer += DT
            if self.flash_timer < FLASH_MS:
                self.digits_shown = False
            elif self.flash_timer > 2 * FLASH_MS:
                self.flash_timer = 0.0
                self.num_flashes += 1
        else:
            self.flashing, self.num_flashes, self.flash_timer = False, 0, 0.0

    def _update_night(self, score: int) -> None:
        if self.night_timer > NIGHT_LENGTH:
            self.night_timer, self.night = 0.0, False
        elif self.night_timer:
            self.night_timer += DT
        elif score > 0 and score % NIGHT_SCORE == 0:
            self.night_timer += DT
            self.night = True


def _drift(x: float, speed: float) -> float:
    return float(SKY_WIDTH) if x < -20 else x - speed
