// The page of a served game: keys go to the server, frames come back. The protocol is described in serve/protocol.py.

const $ = (id) => document.getElementById(id);
const canvas = $("canvas");
const context = canvas.getContext("2d", { alpha: false });

const HEADER_BYTES = 16;
const FLAG_START = 1;
const SEEN_EVERY = 4; // frames, as in serve/protocol.py
const CLOSE_NORMAL = 1000;
const CLOSE_POLICY = 1008;
const CLOSE_FULL = 1013;
const RETRY_MS = [500, 1000, 2000, 4000, 8000];
const FIGURES_MS = 500;
const MOST_SILENT = 20; // times that figures are shown: a machine that loses its power closes no connection

let socket = null; // the open connection
let game = null; // the GameSpec of the server's hello
let playing = false; // the server sends frames by itself
let started = false; // the player has pressed something: a game that nobody watches stands still
let ended = false; // the place of a player who did nothing for long is somebody else's: it is taken again when they play
let asked = false; // to play, and nothing has come since
let attempts = 0;
let silent = 0; // how often figures were shown since the server last said something
let inputId = 0;
let frameTimes = [];
let modelMs = 0;

// ---------------------------------------------------------------- connection

function connect() {
  const address = new URL("play", location.href);
  address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  const token = new URLSearchParams(location.search).get("token");
  address.search = token ? `?token=${encodeURIComponent(token)}` : "";
  address.hash = "";
  const opening = new WebSocket(address);
  opening.binaryType = "arraybuffer";
  opening.onmessage = (event) => {
    silent = 0;
    asked = false;
    if (typeof event.data === "string") onMessage(JSON.parse(event.data));
    else onFrame(event.data);
  };
  opening.onclose = onClose;
  socket = opening;
  silent = 0;
  ended = false;
}

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function onMessage(message) {
  if (message.type === "hello") {
    attempts = 0;
    game = message.game;
    describe(message);
    say(started ? "" : "press a key or tap to start");
    if (started) play();
  } else if (message.type === "pong") {
    $("ping").textContent = `${Math.round(performance.now() - message.t)} ms`;
  } else if (message.type === "playing") {
    playing = true;
    say("");
    sendHeld();
  } else if (message.type === "paused") {
    playing = false;
  } else if (message.type === "error") {
    say(message.message, true);
  }
}

function onClose(event) {
  playing = asked = false;
  release();
  for (const id of ["fps", "ping", "model"]) $(id).textContent = "–";
  const why = event.reason ? ` (${event.reason})` : "";
  if (event.code === CLOSE_POLICY) {
    say(`the server does not let this page in${why}`, true);
    return;
  }
  if (event.code === CLOSE_NORMAL) {
    ended = true;
    say(`press a key or tap to play again${why}`);
    return;
  }
  const wait = event.code === CLOSE_FULL ? 5000 : RETRY_MS[Math.min(attempts, RETRY_MS.length - 1)];
  attempts += 1;
  const what = event.code === CLOSE_FULL ? "the game is full" : "connection lost";
  say(`${what}${why}; trying again in ${wait / 1000} s`, true);
  setTimeout(connect, wait);
}

function giveUp() {
  socket.onmessage = socket.onclose = null; // the browser waits long for the other side before it says that it is closed
  socket.close();
  onClose({ code: 0, reason: "the server does not answer" });
}

// ---------------------------------------------------------------- frames

let drawing = Promise.resolve();

function onFrame(buffer) {
  const header = new DataView(buffer, 0, HEADER_BYTES);
  const frame = {
    number: header.getUint32(0, true),
    flags: header.getUint8(5),
    modelMs: header.getUint32(8, true) / 1000,
    jpeg: new Blob([new Uint8Array(buffer, HEADER_BYTES)], { type: "image/jpeg" }),
  };
  drawing = drawing.then(() => draw(frame)).catch((error) => say(`a frame could not be shown: ${error}`, true));
}

async function draw(frame) {
  const image = await createImageBitmap(frame.jpeg);
  context.drawImage(image, 0, 0);
  image.close();
  canvas.dataset.frame = frame.number;
  recorder?.draw();
  if (playing && frame.number % SEEN_EVERY === 0) send({ type: "seen", frame: frame.number });
  if (frame.flags & FLAG_START) return;
  modelMs = modelMs ? 0.9 * modelMs + 0.1 * frame.modelMs : frame.modelMs;
  frameTimes.push(performance.now());
}

function showFigures() {
  const now = performance.now();
  frameTimes = frameTimes.filter((time) => now - time < 2000);
  const seconds = (now - frameTimes[0]) / 1000;
  const enough = playing && frameTimes.length > 1;
  $("fps").textContent = enough ? (frameTimes.length / Math.max(seconds, 0.5)).toFixed(1) : "–";
  $("model").textContent = enough ? `${modelMs.toFixed(1)} ms` : "–";
  if (playing) send({ type: "ping", t: now });
  silent += 1; // counted, not timed: the page itself may have slept
  if (silent > MOST_SILENT && (playing || asked || socket.readyState === WebSocket.CONNECTING)) giveUp();
}

// ---------------------------------------------------------------- the player

const held = []; // what is pressed, oldest first: [key code or button, action]; the server joins them to one action

function press(source, action) {
  if (held.some(([other]) => other === source)) return; // auto-repeat
  held.push([source, action]);
  if (!started || !playing) start();
  sendHeld();
}

function letGo(source) {
  const index = held.findIndex(([other]) => other === source);
  if (index < 0) return;
  held.splice(index, 1);
  sendHeld();
}

function release() {
  if (held.length === 0) return;
  held.length = 0;
  sendHeld();
}

function sendHeld() {
  if (!game || !playing) return;
  inputId += 1;
  send({ type: "action", action: held.map(([, action]) => action), id: inputId });
  for (const button of $("touch").children) button.classList.toggle("held", held.some(([source]) => source === button));
}

function start() {
  if (!game) return;
  started = true;
  if (ended) connect(); // the server's hello plays
  else play();
}

function play() {
  if (document.hidden || !started || socket?.readyState !== WebSocket.OPEN) return;
  send({ type: "play" });
  if (!asked) silent = 0; // not with every key of a player who waits
  asked = true;
}

function restart() {
  send({ type: "reset" });
  start();
}

addEventListener("keydown", (event) => {
  const action = game?.keyboard[event.code];
  if (action === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault(); // the page must not scroll, and Space must not press a button
  if (!event.repeat) press(event.code, action);
});
addEventListener("keyup", (event) => {
  if (game?.keyboard[event.code] !== undefined) event.preventDefault();
  letGo(event.code);
});
addEventListener("blur", release); // a key let go elsewhere is never heard of
document.addEventListener("visibilitychange", () => {
  release();
  if (document.hidden) send({ type: "pause" });
  else if (started) play();
});

function hold(element, action) {
  element.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    element.setPointerCapture(event.pointerId);
    press(element, action());
  });
  for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) {
    element.addEventListener(kind, () => letGo(element));
  }
  element.addEventListener("contextmenu", (event) => event.preventDefault());
}

// A tap on the picture does what Space does, or else what the first key does.
hold(canvas, () => game?.keyboard.Space ?? Object.values(game?.keyboard ?? {})[0]);
$("restart").addEventListener("click", (event) => {
  restart();
  event.currentTarget.blur();
});

// ---------------------------------------------------------------- what the game is

const KEY_NAMES = { Space: "Space", ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→" };
const keyName = (code) => KEY_NAMES[code] ?? code.replace(/^(Key|Digit)/, "").replace(/(Left|Right)$/, "");
const words = (name) => name.replaceAll("_", " ");

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function describe({ game, model }) {
  const title = words(game.name.split(".").pop());
  document.title = `${title} · gamengen`;
  $("title").textContent = title;
  $("subtitle").textContent = `every pixel is dreamt by a neural network: ${model.name}`;
  canvas.width = game.width;
  canvas.height = game.height;
  canvas.style.aspectRatio = `${game.width} / ${game.height}`;

  const keys = new Map(); // action -> its keys
  for (const [code, action] of Object.entries(game.keyboard)) keys.set(action, [...(keys.get(action) ?? []), code]);
  const hint = [];
  for (const [action, codes] of keys) {
    if (hint.length) hint.push(" · ");
    codes.forEach((code, index) => hint.push(index ? " " : "", element("kbd", keyName(code))));
    hint.push(` ${words(action)}`);
  }
  if (game.actions.some((action) => action.includes("+"))) hint.push(" · keys can be held together");
  $("hint").replaceChildren(...hint);
  const actions = keys.size ? [...keys.keys()] : game.actions.slice(1);
  $("touch").replaceChildren(
    ...actions.map((action) => {
      const button = element("button", words(action));
      button.type = "button";
      hold(button, () => action);
      return button;
    }),
  );
}

function say(message, warn = false) {
  $("message").textContent = message;
  $("overlay").hidden = !message;
  $("overlay").classList.toggle("warn", warn);
}

// ---------------------------------------------------------------- a video of the run

let recorder = null;

function record() {
  const scale = Math.max(1, Math.round(720 / canvas.height)); // small pictures do not survive a video codec
  const large = document.createElement("canvas");
  large.width = canvas.width * scale;
  large.height = canvas.height * scale;
  const pen = large.getContext("2d", { alpha: false });
  pen.imageSmoothingEnabled = false;
  const draw = () => pen.drawImage(canvas, 0, 0, large.width, large.height);
  draw();
  const type = ["video/mp4;codecs=avc1", "video/webm;codecs=vp9", "video/webm"].find((kind) => MediaRecorder.isTypeSupported(kind));
  const media = new MediaRecorder(large.captureStream(game.frames_per_second), { mimeType: type, videoBitsPerSecond: 6e6 });
  const parts = [];
  media.ondataavailable = (event) => parts.push(event.data);
  media.onstop = () => download(new Blob(parts, { type: media.mimeType }));
  media.start();
  recorder = { draw, stop: () => media.stop() };
}

function download(video) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(video);
  link.download = `${game.name}.${video.type.includes("mp4") ? "mp4" : "webm"}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

$("record").addEventListener("click", (event) => {
  if (!game) return;
  if (recorder) {
    recorder.stop();
    recorder = null;
  } else {
    record();
  }
  event.currentTarget.textContent = recorder ? "Stop and save" : "Record";
  event.currentTarget.setAttribute("aria-pressed", String(recorder !== null));
  event.currentTarget.blur();
});
$("record").hidden = !("MediaRecorder" in window);

setInterval(showFigures, FIGURES_MS);
connect();
