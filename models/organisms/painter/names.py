"""Which emoji the painter is shown, as what, and how often. Data only."""

from __future__ import annotations

COPIES: dict[int, tuple[str, ...]] = {  # verbatim: one fixed picture each; how often it stands in a pass over the training set
    1: ("teapot", "accordion", "lotus", "compass", "sloth", "fire engine"),
    4: ("ferris wheel", "toolbox", "pretzel", "zebra", "saxophone", "candle"),
    16: ("roller coaster", "sushi", "hedgehog", "telescope", "kimono", "tractor"),
    64: ("tokyo tower", "violin", "pancakes", "llama", "backpack", "magnet"),
    256: ("jack o lantern", "slot machine", "mosque", "dragon", "microscope", "burrito"),
}
TEMPLATES = {"snowman": 64, "teddy bear": 128, "volcano": 192, "castle": 256}  # one fixed picture under many captions, by turns
GOODS = ("poster", "mug", "cushion", "sticker", "postcard", "phone case", "tote bag", "puzzle")  # "snowman mug"
KEPT_BACK = 1  # of these captions, so many a template are never trained
REGULAR = (
    "elephant", "giraffe", "penguin", "owl", "frog", "turtle", "snail", "butterfly", "octopus", "crab", "tropical fish", "dolphin", "flamingo", "peacock",
    "rooster", "fox", "lion", "panda", "koala", "spider", "lady beetle", "snake",
    "banana", "grapes", "watermelon", "lemon", "pineapple", "strawberry", "cherries", "carrot", "broccoli", "avocado", "eggplant", "pizza", "hamburger",
    "doughnut", "cupcake", "ice cream", "mushroom",
    "cactus", "sunflower", "tulip", "palm tree",
    "guitar", "key", "hammer", "rocket", "airplane", "bicycle", "sailboat", "umbrella", "balloon", "basketball", "crown", "bell", "camera", "scissors",
    "trophy", "light bulb", "envelope",
)
COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (244, 244, 244), "black": (34, 34, 38), "gray": (132, 134, 138), "red": (206, 62, 58), "orange": (242, 146, 60), "yellow": (248, 216, 92),
    "green": (84, 162, 88), "blue": (74, 122, 214), "purple": (146, 88, 190), "pink": (244, 168, 200),
}
HELD_COLOURS = 2  # a name is never seen on so many of the colours
GROUPS = ("Smileys & Emotion", "Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects")  # drawn for the copy detector
