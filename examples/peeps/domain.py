"""The attributes of a peep: what is drawn, how often, and where in z and w each category lives.

The art is Open Peeps by Pablo Stanley (CC0), drawn by dicebear's ``open-peeps`` style. Every attribute has one
drawing or colour per category, so a label says exactly what the picture shows.
"""

from dataclasses import dataclass
from statistics import NormalDist

Z_DIM = 128
W_DIM = 128


@dataclass(frozen=True)
class Attribute:
    """One labelled attribute.

    Attributes:
        name: column name of the label.
        option: dicebear's option that draws it.
        categories: category -> dicebear's value; None draws nothing.
        shares: relative frequency of each category; 1 where not given.
    """

    name: str
    option: str
    categories: dict[str, str | None]
    shares: dict[str, int]

    @property
    def slots(self) -> list[int]:
        """Category numbers, each repeated by its share: a uniform choice among them samples the attribute."""
        return [i for i, c in enumerate(self.categories) for _ in range(self.shares.get(c, 1))]


ATTRIBUTES = (
    Attribute(
        "head",
        "head",
        {
            "afro": "afro",
            "bald": "noHair1",
            "bangs": "bangs",
            "beanie": "hatBeanie",
            "bob": "bangs2",
            "bun": "grayBun",
            "curly": "longCurly",
            "dreadlocks": "dreads1",
            "flat_top": "flatTopLong",
            "hat": "hatHip",
            "hijab": "hijab",
            "long": "long",
            "mohawk": "mohawk",
            "pompadour": "pomp",
            "short": "grayShort",
            "turban": "turban",
        },
        {},
    ),
    Attribute(
        "expression",
        "expression",
        {
            "neutral": "blank",
            "smile": "smileBig",
            "laugh": "smileLOL",
            "angry": "rage",
            "sad": "solemn",
            "surprised": "awe",
            "old": "old",
            "loving": "lovingGrin1",
        },
        {"neutral": 3},
    ),
    Attribute(
        "facial_hair",
        "facialHair",
        {"none": None, "beard": "full2", "goatee": "goatee2", "moustache": "moustache5", "handlebar": "moustache3"},
        {"none": 4},
    ),
    Attribute(
        "accessories",
        "accessories",
        {"none": None, "glasses": "glasses3", "sunglasses": "sunglasses", "eyepatch": "eyepatch"},
        {"none": 3},
    ),
    Attribute("skin", "skinColor", {"pale": "#ffdbb4", "tan": "#d08b5b", "brown": "#ae5d29", "dark": "#694d3d"}, {}),
    Attribute(
        "hair_color",
        "headContrastColor",
        {
            "black": "#2c1b18",
            "brown": "#724133",
            "blond": "#d6b370",
            "red": "#c93305",
            "gray": "#e8e1e1",
            "pink": "#f59797",
        },
        {},
    ),
    Attribute(
        "clothing",
        "clothingColor",
        {"blue": "#8fa7df", "green": "#78e185", "yellow": "#fdea6b", "pink": "#e279c7", "red": "#e78276"},
        {},
    ),
    Attribute(
        "background",
        "backgroundColor",
        {"white": "#ffffff", "blue": "#bfe0f5", "green": "#cfeec2", "gray": "#c9c9cf"},
        {},
    ),
)

# The drawings whose hair takes the hair colour; all others are drawn in black ink or show no hair.
COLORED_HEADS = frozenset({"bangs", "bun", "mohawk", "short"})


def label_names() -> list[str]:
    """Attribute names in drawing order."""
    return [a.name for a in ATTRIBUTES]


def w_block(index: int) -> slice:
    """Where an attribute's one-hot stands in w."""
    start = sum(len(a.categories) for a in ATTRIBUTES[:index])
    return slice(start, start + len(ATTRIBUTES[index].categories))


def category_edges(index: int) -> list[float]:
    """Where the categories of an attribute meet on its z coordinate: quantiles of the normal distribution.

    Attribute i reads coordinate i of z. Category k owns an interval whose probability is its share, so z samples
    every category at its share, and a conditional sample only has to draw that coordinate from its interval.
    """
    attribute = ATTRIBUTES[index]
    shares = [attribute.shares.get(category, 1) for category in attribute.categories]
    below = [sum(shares[: k + 1]) / sum(shares) for k in range(len(shares) - 1)]
    return [NormalDist().inv_cdf(p) for p in below]
