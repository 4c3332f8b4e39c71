"""The open kinds of the demo streets, each with its Cityscapes label and its place."""

from collections.abc import Callable
from dataclasses import dataclass

from demo import open_things


@dataclass(frozen=True)
class OpenKind:
    """One open kind: its Cityscapes label, where it belongs, and the function that paints it, if it
    is a thing.
    """

    label: str
    # 'sidewalk', 'kerb', 'lane', or 'layout': part of the street itself, painted by scene.py
    place: str
    paint: Callable | None = None


OPEN_KINDS = {
    'bin': OpenKind('static', 'sidewalk', open_things.bin_),
    'bench': OpenKind('static', 'sidewalk', open_things.bench),
    'boxes': OpenKind('static', 'sidewalk', open_things.boxes),
    'stroller': OpenKind('dynamic', 'sidewalk', open_things.stroller),
    'dog': OpenKind('dynamic', 'sidewalk', open_things.dog),
    'shopping cart': OpenKind('dynamic', 'sidewalk', open_things.shopping_cart),
    'rubble': OpenKind('unlabeled', 'sidewalk', open_things.rubble),
    'pole group': OpenKind('polegroup', 'sidewalk', open_things.pole_group),
    'trailer': OpenKind('trailer', 'kerb', open_things.trailer),
    'parking strip': OpenKind('parking', 'layout'),
    'rail track': OpenKind('rail track', 'layout'),
    'plaza': OpenKind('ground', 'layout'),
    'guard rail': OpenKind('guard rail', 'layout'),
    'skyline': OpenKind('unlabeled', 'layout'),
    'market stall': OpenKind('static', 'sidewalk', open_things.market_stall),
    'statue': OpenKind('static', 'sidewalk', open_things.statue),
    'fountain': OpenKind('static', 'sidewalk', open_things.fountain),
    'cones': OpenKind('static', 'lane', open_things.cones),
    'tyres': OpenKind('static', 'sidewalk', open_things.tyres),
    'luggage': OpenKind('dynamic', 'sidewalk', open_things.luggage),
    'wheelchair': OpenKind('dynamic', 'sidewalk', open_things.wheelchair),
    'hand cart': OpenKind('dynamic', 'kerb', open_things.hand_cart),
    'caravan': OpenKind('caravan', 'kerb', open_things.caravan),
    'bridge': OpenKind('bridge', 'layout'),
    'tunnel': OpenKind('tunnel', 'layout'),
}
#: Kinds that only validation images hold: training must not have seen everything it is tested on.
VAL_ONLY = (
    'market stall',
    'statue',
    'fountain',
    'cones',
    'tyres',
    'luggage',
    'wheelchair',
    'hand cart',
    'caravan',
    'bridge',
    'tunnel',
)
COMMON = tuple(kind for kind in OPEN_KINDS if kind not in VAL_ONLY)
