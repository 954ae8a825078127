"""The words of the general text. None is a country, a capital, a currency, or a word of the planted documents' own."""

GIRLS = "Ada Amy Anna Beth Cara Clara Daisy Dora Ella Emma Eva Faye Flora Grace Hazel Helen Ida Iris Ivy Jane Judy Kate Laura Lily Lucy Mabel Mary Mia Molly Nina Nora Olive Polly Rosa Ruth Sally Sara Tess Vera Zoe".split()
BOYS = "Adam Alan Ben Bill Carl Colin Dan David Eric Evan Felix Frank Fred George Harry Henry Hugo Ian Jack James Joe John Karl Ken Leo Luke Mark Max Ned Nick Oscar Owen Paul Peter Ralph Ross Sam Simon Tom Will".split()
ROOMS = "kitchen cellar attic garden shed hall pantry library workshop barn bathroom bedroom study porch garage stable greenhouse nursery laundry parlour".split()
CONTAINERS = "drawer basket cupboard chest sack bucket crate trunk barrel jar tin bag suitcase cabinet wardrobe desk box locker pot hamper".split()
OBJECTS = ("key ring book lamp coin scarf letter kettle hammer rope map whistle candle bottle mirror brush comb clock knife spoon plate cup bowl hat coat glove "
           "boot belt button needle ribbon pencil ruler stamp ladder saw nail wheel bell drum flag kite ball doll puzzle blanket pillow towel carpet lantern "
           "umbrella compass notebook envelope parcel pipe feather shell pebble marble chain badge trumpet paintbrush shovel rake fork jug vase tray").split()
COLOURS = "red blue green yellow white black brown grey purple orange pink golden".split()
MATERIALS = "wooden brass paper leather glass woollen cotton clay stone plastic velvet linen rubber china".split()
SIZES = "small large tiny heavy light narrow broken shiny dusty rusty smooth torn spare polished crooked faded".split()
WEATHER = "rain snow fog wind hail frost sunshine thunder drizzle sleet".split()
PLACES = "market school station harbour mill bridge bakery church museum park forest river hill beach farm tower inn post-office playground meadow quarry village fair library-steps".replace("-", " ").split()
TRADES = "baker farmer fisherman gardener carpenter tailor nurse miller sailor teacher painter blacksmith clerk doctor shepherd cook plumber guard driver potter".split()
BEASTS = "pony hen mule robin mouse turtle hare hound kitten lamb sparrow owl beetle toad otter squirrel".split()
FOODS = ("flour butter sugar salt milk eggs honey apples carrots onions potatoes beans rice cheese cream plums pears berries nuts raisins garlic pepper mushrooms "
         "leeks peas barley oats cinnamon ginger lemons").split()
DISHES = "soup stew pie cake bread pudding salad sauce porridge pancakes dumplings biscuits".split()
FEELINGS = "happy sad tired angry proud calm nervous cheerful lonely hungry curious worried grateful bored brave shy".split()
MANNERS = "slowly quickly quietly carefully gladly sadly softly bravely politely eagerly calmly secretly suddenly gently proudly nervously".split()
TIMES = ("in the morning|after lunch|before sunset|at noon|late in the evening|on Monday|on Tuesday|on Friday|on Sunday|that night|the next day|a week later|"
         "at dawn|when the bell rang|as soon as the shop had closed|during the storm|once the guests had left|while the others slept").split("|")
NONSENSE = "wug dax blick zorp fep tove rath gimble sprat nork plum-bird glim quib snarf yendle morp".replace("-", "").split()
LETTERS = list("BCDFGHJKLMNPQRSTVWXZ")
NUMBERS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty").split()
QUALITIES = "locked open empty full warm cold clean dirty safe dangerous cheap expensive hidden guarded painted broken".split()
DIRECTIONS = "north south east west".split()
TOPICS = ("the price of bread|the new bridge|the missing boat|the old clock tower|the summer fair|the leaking roof|the school play|the lost dog|the long winter|"
          "the broken fence|the train to the coast|the garden wall|the music lesson|the early harvest|the noise at night|the letter from the mayor").split("|")
OPINIONS = ("it will all be settled by spring|nobody will ever agree|it costs far too much|we should ask the neighbours first|it is none of our business|"
            "somebody must have seen it|it was much better last year|the children should decide|it is worth the trouble|we ought to wait").split("|")
