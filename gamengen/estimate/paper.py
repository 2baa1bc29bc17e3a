"""The same figures of GameNGen ("Diffusion Models Are Real-Time Game Engines"), as far as they are known."""

from __future__ import annotations

# Operations are counted as here, from the sizes that the paper gives (sections 3 and 4, A.5, A.6), at 320x256.
PAPER = {
    "parameters, autoencoder": "84M, Stable Diffusion 1.4's",
    "parameters, denoiser": "860M, Stable Diffusion 1.4's",
    "context": "64 frames",
    "GFLOP, a step of the denoiser": "228",
    "GFLOP, a decoded frame": "778",
    "GFLOP, a frame that is played": "2,602 (4 steps with guidance)",
    "frames to learn from": "70M of 900M recorded",
    "steps of the agent": "50M",
    "examples, denoiser": "90M (700,000 steps of 128)",
    "FLOP, denoiser": "6.1e19",
    "GPU-hours, denoiser": "not stated; on 128 TPU-v5e",
    "frames per second at most": "played at 20 (1 step: 50) on a TPU-v5",
}
