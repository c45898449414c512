"""Six of VOC's classes: each function draws one figure, its parts from back to front.

Each has thin parts (legs, tails, arms, slats, necks), where a decoder earns its keep, and a
surface of its own, by which it is known in a small crop.
"""

from collections.abc import Callable

import numpy as np

from pipeline.originals.drawing import textures
from pipeline.originals.drawing.shapes import Part, away, blob, curve, ellipse, limb, polygon
from pipeline.originals.drawing.textures import Colour, Random, Size, choose

_BLACK: Colour = (22, 18, 20)
_WHITE: Colour = (248, 246, 240)


def bird(rng: Random, size: Size) -> list[Part]:
    """Speckled; on stilts, or in flight with narrow wings."""
    colour = choose(rng, (222, 48, 58), (40, 96, 222), (238, 62, 150))
    plumage = textures.feathers(rng, size, colour)
    dark = textures.feathers(rng, size, textures.dimmed(colour))
    yellow, white, black = (textures.plain(rng, size, c) for c in ((250, 176, 32), _WHITE, _BLACK))
    body = [
        blob(dark, (-0.10, -0.70), (-0.62, -0.72), (-0.72, -0.56), (-0.14, -0.48)),
        blob(
            plumage,
            (0.44, -0.88), (0.36, -0.50), (0.02, -0.36),
            (-0.36, -0.54), (-0.10, -0.76), (0.22, -0.98),
        ),
        polygon(yellow, (0.44, -0.94), (0.72, -0.86), (0.44, -0.80)),
        ellipse(plumage, (0.36, -0.87), 0.150, 0.135),
        ellipse(white, (0.40, -0.90), 0.048, 0.048),
        ellipse(black, (0.41, -0.90), 0.026, 0.026),
    ]  # fmt: skip
    if rng.random() < 0.45:
        lift = rng.uniform(0.35, 0.60)
        far = blob(dark, (0.14, -0.74), (0.26, -0.80 - lift), (0.08, -1.0 - lift), (-0.06, -0.70))
        near = blob(
            dark, (0.18, -0.70), (-0.16, -0.76 - lift), (-0.46, -0.90 - lift), (-0.18, -0.60)
        )
        return [far, *body, near]
    step = rng.uniform(0.05, 0.11)
    legs = [
        limb(yellow, 0.045, (x, -0.48), (x + dx, -0.20), (x + dx, -0.02), (x + dx + 0.11, -0.02))
        for x, dx in ((-0.10, -step), (0.16, step))
    ]
    folded = blob(dark, (0.20, -0.74), (0.08, -0.48), (-0.42, -0.54), (-0.10, -0.74))
    return [*legs, *body, folded]


def bottle(rng: Random, size: Size) -> list[Part]:
    """Glass with a long neck, a paper label and a gleam."""
    colour = choose(rng, (22, 110, 78), (16, 120, 132), (20, 84, 40))
    ink = choose(rng, (170, 30, 40), (40, 50, 120))
    glass = textures.glass(rng, size, colour)
    foil, paper, seal, gleam = (
        textures.plain(rng, size, c)
        for c in ((196, 160, 70), (246, 236, 206), ink, (196, 240, 222))
    )
    shoulder = rng.uniform(-0.64, -0.54)
    right = [
        (0.155, 0.0), (0.165, -0.02), (0.165, shoulder + 0.05), (0.15, shoulder),
        (0.06, shoulder - 0.13), (0.052, -0.90), (0.06, -0.97),
    ]  # fmt: skip
    return [
        polygon(glass, *right, *((-x, y) for x, y in reversed(right))),
        polygon(foil, (-0.068, -0.88), (0.068, -0.88), (0.068, -1.0), (-0.068, -1.0)),
        polygon(paper, (-0.165, -0.40), (0.165, -0.40), (0.165, -0.16), (-0.165, -0.16)),
        ellipse(seal, (0.0, -0.28), 0.075, 0.065),
        ellipse(gleam, (-0.105, shoulder + 0.08), 0.020, 0.060),
    ]


def cat(rng: Random, size: Size) -> list[Part]:
    """Tabby, walking, tail up."""
    ginger, grey = ((236, 158, 76), (150, 78, 28)), ((178, 176, 178), (88, 86, 92))
    light, dark = (ginger, grey)[rng.integers(2)]
    fur = textures.stripes(rng, size, light, dark, period=rng.uniform(8, 12), wobble=0.35)
    cream, pink, black, white = (
        textures.plain(rng, size, c) for c in ((250, 232, 208), (236, 140, 140), _BLACK, _WHITE)
    )
    sway, step = rng.uniform(-0.14, 0.14), rng.uniform(0.02, 0.09)
    legs = [(-0.33, -step), (-0.21, step), (0.20, -step), (0.31, step)]
    return [
        curve(
            fur, 0.07,
            (-0.38, -0.52), (-0.56, -0.58), (-0.66, -0.76),
            (-0.60 + sway, -0.96), (-0.48 + sway, -1.04),
        ),
        *(limb(fur, 0.08, (x, -0.36), (x + dx, -0.03)) for x, dx in legs),
        *(ellipse(cream, (x + dx + 0.015, -0.03), 0.06, 0.032) for x, dx in legs),
        ellipse(fur, (0.0, -0.46), 0.42, 0.19, rng.uniform(-0.08, 0.03)),
        polygon(fur, (0.27, -0.80), (0.27, -1.02), (0.42, -0.86)),
        polygon(fur, (0.63, -0.80), (0.63, -1.02), (0.48, -0.86)),
        polygon(pink, (0.30, -0.84), (0.30, -0.95), (0.38, -0.86)),
        polygon(pink, (0.60, -0.84), (0.60, -0.95), (0.52, -0.86)),
        ellipse(fur, (0.45, -0.72), 0.205, 0.175),
        ellipse(cream, (0.45, -0.645), 0.10, 0.07),
        *(ellipse(black, (x, -0.745), 0.038, 0.044) for x in (0.37, 0.53)),
        *(ellipse(white, (x, -0.757), 0.014, 0.016) for x in (0.38, 0.54)),
        polygon(pink, (0.42, -0.685), (0.48, -0.685), (0.45, -0.65)),
    ]  # fmt: skip


def chair(rng: Random, size: Size) -> list[Part]:
    """Grained wood: four legs, an open back."""
    colour = choose(rng, (150, 92, 44), (122, 66, 36), (176, 118, 62))
    wood = textures.wood(rng, size, colour)
    shaded = textures.wood(rng, size, textures.dimmed(colour))
    lean, depth = rng.uniform(0.02, 0.08), rng.uniform(0.10, 0.16)
    left, right = -0.28, 0.24
    posts = np.linspace(left + depth, right + depth, int(rng.integers(3, 5)))
    first, last = posts[0], posts[-1]
    return [
        *(limb(shaded, 0.055, (x, -0.46), (x, -0.02 - depth)) for x in (first, last)),
        *(limb(shaded, 0.045, (x, -0.48), (x + lean, -0.95)) for x in posts[1:-1]),
        *(limb(wood, 0.055, (x, -0.48), (x + lean, -0.95)) for x in (first, last)),
        limb(wood, 0.09, (first + lean - 0.02, -0.95), (last + lean + 0.02, -0.95)),
        polygon(
            wood,
            (left - 0.03, -0.40), (right + 0.03, -0.40),
            (last + 0.03, -0.40 - depth), (first, -0.40 - depth),
        ),
        limb(shaded, 0.06, (left - 0.01, -0.385), (right + 0.01, -0.385)),
        *(limb(wood, 0.06, (x, -0.38), (x, -0.01)) for x in (left, right)),
    ]  # fmt: skip


def person(rng: Random, size: Size) -> list[Part]:
    """In a striped jersey, arms anyhow."""
    cloth = choose(rng, (206, 40, 50), (32, 50, 110), (24, 120, 96))
    jersey = textures.stripes(rng, size, _WHITE, cloth, period=rng.uniform(9, 12), wobble=0.0)
    skin, trousers, hair, black = (
        textures.plain(rng, size, c)
        for c in (
            choose(rng, (240, 196, 164), (198, 142, 106), (126, 84, 62)),
            choose(rng, (46, 62, 104), (88, 70, 60)),
            choose(rng, (60, 38, 26), (196, 150, 76), (30, 26, 28)),
            _BLACK,
        )
    )
    parts = []
    for side in (-1, 1):
        foot = side * rng.uniform(0.07, 0.18)
        parts += [
            limb(trousers, 0.085, (side * 0.06, -0.46), (side * 0.08, -0.24), (foot, -0.03)),
            ellipse(black, (foot + side * 0.02, -0.025), 0.06, 0.028),
        ]
    parts.append(
        blob(
            jersey,
            (-0.15, -0.80), (0.15, -0.80), (0.12, -0.60),
            (0.13, -0.42), (-0.13, -0.42), (-0.12, -0.60),
            rounds=2,
        )
    )  # fmt: skip
    for side in (-1, 1):
        shoulder = (side * 0.125, -0.755)
        elbow = away(shoulder, side, rng.uniform(0.15, 1.5), 0.17)
        hand = away(elbow, side, rng.uniform(0.2, 2.6), 0.16)
        parts += [limb(jersey, 0.065, shoulder, elbow, hand), ellipse(skin, hand, 0.042, 0.042)]
    return [
        *parts,
        limb(skin, 0.07, (0.0, -0.82), (0.0, -0.78)),
        ellipse(hair, (0.0, -0.915), 0.094, 0.10),
        ellipse(skin, (0.0, -0.885), 0.080, 0.085),
        *(ellipse(black, (x, -0.895), 0.013, 0.018) for x in (-0.03, 0.03)),
        polygon(black, (-0.032, -0.858), (0.0, -0.846), (0.032, -0.858), (0.0, -0.834)),
    ]


def sheep(rng: Random, size: Size) -> list[Part]:
    """A cloud on four thin legs."""
    wool = textures.wool(rng, size, choose(rng, (255, 250, 240), (246, 236, 214)))
    dark, black, white = (textures.plain(rng, size, c) for c in ((58, 50, 52), _BLACK, _WHITE))
    step = rng.uniform(-0.05, 0.05)
    legs = [(-0.30, step), (-0.17, -step), (0.17, step), (0.29, -step)]
    around = np.arange(10) * 2 * np.pi / 10
    curls = [(0.40 * np.cos(a), -0.60 + 0.20 * np.sin(a)) for a in around]
    return [
        *(limb(dark, 0.065, (x, -0.42), (x + dx, -0.02)) for x, dx in legs),
        *(ellipse(wool, curl, 0.135, 0.120) for curl in curls),
        ellipse(wool, (0.0, -0.60), 0.40, 0.23),
        *(ellipse(dark, (x, -0.80), 0.10, 0.045, a) for x, a in ((0.36, -0.5), (0.66, 0.5))),
        ellipse(dark, (0.51, -0.72), 0.125, 0.185),
        ellipse(wool, (0.51, -0.90), 0.125, 0.085),
        *(ellipse(white, (x, -0.76), 0.036, 0.036) for x in (0.46, 0.56)),
        *(ellipse(black, (x, -0.755), 0.018, 0.018) for x in (0.465, 0.565)),
    ]


# By VOC's class names.
FIGURES: dict[str, Callable[[Random, Size], list[Part]]] = {
    "bird": bird,
    "bottle": bottle,
    "cat": cat,
    "chair": chair,
    "person": person,
    "sheep": sheep,
}
