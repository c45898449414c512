"""What figures stand on: meadow, beach, room or tiled yard, as a picture without figures."""

import cv2
import numpy as np

from pipeline.originals.drawing import textures
from pipeline.originals.drawing.textures import Random, Size, Texture


def draw(rng: Random, size: Size) -> tuple[Texture, int]:
    """Draws a ground.

    Returns:
        The picture, and the row in which the floor begins.
    """
    horizon = int(size[0] * rng.uniform(0.38, 0.58))
    upper, lower = [(_sky, _grass), (_sea, _sand), (_wallpaper, _planks), (_plaster, _tiles)][
        rng.integers(4)
    ]
    canvas = upper(rng, size, horizon)
    canvas[horizon:] = lower(rng, size, horizon)[horizon:]
    if upper is _sky:
        _hills(rng, canvas, horizon)
    elif upper in (_wallpaper, _plaster):
        canvas[horizon - 5 : horizon] = (232, 226, 214)  # skirting board
        canvas[horizon - 6] *= 0.8
        canvas[horizon] *= 0.7
    return canvas, horizon


def _sky(rng: Random, size: Size, horizon: int) -> Texture:
    down = np.linspace(0, 1.2, size[0], dtype=np.float32)[:, None] * np.ones(size, np.float32)
    top = textures.choose(rng, (120, 176, 226), (150, 196, 232), (196, 176, 200))
    sky = textures.mixed(
        textures.tinted(top, np.ones(size, np.float32)),
        textures.tinted((238, 236, 224), np.ones(size, np.float32)),
        np.clip(down, 0, 1),
    )
    clouds = textures.noise(rng, size, 60, 0.45) + 0.5 * textures.noise(rng, size, 22, 0.5)
    white = textures.tinted((250, 250, 250), np.ones(size, np.float32))
    return textures.mixed(sky, white, 0.8 * np.clip(clouds * 1.6, 0, 1))


def _hills(rng: Random, canvas: Texture, horizon: int) -> None:
    x = np.arange(canvas.shape[1])
    for height, colour in ((26, (152, 176, 170)), (14, (122, 154, 116))):
        phase, period = rng.uniform(0, 6), rng.uniform(60, 130)
        ridge = horizon - height * (0.6 + 0.4 * np.sin(x / period * 2 * np.pi + phase))
        rows = np.arange(canvas.shape[0])[:, None]
        cover = np.clip(rows - ridge, 0, 1) * (rows < horizon)
        canvas += cover[..., None].astype(np.float32) * (np.array(colour, np.float32) - canvas)


def _grass(rng: Random, size: Size, horizon: int) -> Texture:
    colour = textures.choose(rng, (134, 170, 72), (158, 176, 86), (120, 158, 88))
    blades = textures.noise(rng, size, 2, 3) + 0.7 * textures.noise(rng, size, 4, 2.5)
    patches = textures.noise(rng, size, 48, 0.5)
    grass = textures.tinted(colour, 1 + 0.14 * blades + 0.10 * patches)
    for _ in range(int(rng.integers(10, 40))):  # daisies
        y = int(rng.integers(min(horizon + 4, size[0] - 1), size[0]))
        x = int(rng.integers(size[1]))
        cv2.circle(grass, (x, y), 2, (250, 250, 240), -1, cv2.LINE_AA)
        cv2.circle(grass, (x, y), 1, (240, 200, 60), -1)
    return grass


def _sea(rng: Random, size: Size, horizon: int) -> Texture:
    canvas = _sky(rng, size, horizon)
    shore = int(horizon * 0.62)
    waves = textures.noise(rng, size, 26, 0.12) + 0.5 * textures.noise(rng, size, 9, 0.25)
    canvas[shore:] = textures.tinted((92, 150, 176), 1 + 0.13 * waves)[shore:]
    foam = np.clip(textures.noise(rng, size, 30, 0.15) * 2, 0, 1)[horizon - 7 : horizon, :, None]
    canvas[horizon - 7 : horizon] += foam * (245 - canvas[horizon - 7 : horizon])
    return canvas


def _sand(rng: Random, size: Size, horizon: int) -> Texture:
    ripples = textures.noise(rng, size, 30, 0.2)
    grains = textures.noise(rng, size, 2) + 0.5 * textures.noise(rng, size, 1.5)
    return textures.tinted((226, 204, 158), 1 + 0.06 * ripples + 0.05 * grains)


def _wallpaper(rng: Random, size: Size, horizon: int) -> Texture:
    colour = textures.choose(rng, (204, 214, 200), (222, 206, 200), (196, 208, 222))
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    pitch = rng.uniform(18, 30)
    if rng.random() < 0.5:
        pattern = np.clip(3 * np.sin(2 * np.pi * x / pitch), -1, 1)
    else:
        dots = np.cos(2 * np.pi * x / pitch) * np.cos(2 * np.pi * y / pitch)
        pattern = np.clip(8 * (dots - 0.75), -0.3, 1)
    shade = 1 + 0.05 * pattern + 0.04 * textures.noise(rng, size, 70)
    return textures.tinted(colour, shade.astype(np.float32))


def _plaster(rng: Random, size: Size, horizon: int) -> Texture:
    colour = textures.choose(rng, (216, 202, 178), (190, 196, 198), (222, 196, 170))
    rough = textures.noise(rng, size, 5) + textures.noise(rng, size, 40)
    return textures.tinted(colour, 1 + 0.05 * rough)


def _floor(size: Size, horizon: int) -> tuple[Texture, Texture]:
    """Coordinates on a floor that recedes: sideways, and away from the onlooker."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    away = 1 / np.clip((y - horizon + 22) / (size[0] - horizon + 22), 0.05, None)
    return (x - size[1] / 2) * away, away


def _planks(rng: Random, size: Size, horizon: int) -> Texture:
    across, _ = _floor(size, horizon)
    board = across / 34 + rng.uniform(0, 1)
    tone = np.sin(np.floor(board) * 12.9898) * 0.07
    seam = np.abs(board - np.round(board)) < 0.035
    grain = 0.04 * textures.noise(rng, size, 3, 10)
    return textures.tinted((190, 170, 146), (1 + tone + grain - 0.22 * seam).astype(np.float32))


def _tiles(rng: Random, size: Size, horizon: int) -> Texture:
    across, away = _floor(size, horizon)
    checks = np.sin(np.pi * across / 36) * np.sin(np.pi * away * 3.2)
    share = np.clip(0.5 + 6 * checks, 0, 1).astype(np.float32)
    dark = textures.choose(rng, (150, 160, 168), (172, 140, 128), (150, 158, 140))
    return textures.mixed(
        textures.plain(rng, size, (224, 220, 212), 0.03),
        textures.plain(rng, size, dark, 0.03),
        share,
    )
