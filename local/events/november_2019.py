"""What the generator is calibrated to: the shop's November 2019 in figures.

Source: Kaggle, "eCommerce behavior data from multi category store" (REES46), file 2019-Nov.csv of 67,501,979
rows. "Published" marks a figure counted over that file or given with it. "Derived" follows from published
ones by the arithmetic beside it. "Chosen" has no published figure: it was set to look like the shop.
"""

from __future__ import annotations

# --- totals (published) ---
ROWS = 67_501_979
VIEWS = 63_556_110
CARTS = 3_028_930
PURCHASES = 916_939
SESSIONS = 13_776_050
USERS = 3_696_117
PRODUCTS = 190_662
CATEGORIES = 684
BRANDS = 4_201
ROWS_WITHOUT_CATEGORY_CODE = 21_898_171
ROWS_WITHOUT_BRAND = 9_218_235
ROWS_WITHOUT_SESSION = 10
DUPLICATE_ROWS = 100_519
SESSIONS_OF_SEVERAL_USERS = 591
FREE_VIEWS = 183_680
"""Views at price 0. No purchase has price 0."""
FREE_CARTS = 4_408
MEDIAN_PRICE = 169.35
MEAN_PRICE = 292.46
MAX_PRICE = 2574.07

# --- days ---
DAY_PURCHASES = (
    22_458, 21_864, 22_145, 26_889, 24_875, 25_319, 24_863, 25_714, 22_768, 22_878,
    24_931, 22_725, 22_548, 22_124, 0, 68_247, 185_195, 28_537, 24_967, 24_947,
    25_266, 24_187, 22_243, 23_163, 24_827, 24_226, 24_443, 24_305, 32_107, 28_178,
)  # fmt: skip
"""Purchases on November 1st to 30th (published)."""

DAY_VIEWS = tuple(
    thousands * 1000
    for thousands in (
        1400, 1442, 1483, 1525, 1567, 1608, 1650, 1692, 1733, 1775,
        1817, 1858, 1900, 2880, 5740, 6030, 5780, 1859, 1667, 1610,
        1619, 1653, 1620, 1617, 1859, 1667, 1610, 1619, 1653, 1620,
    )
)  # fmt: skip
"""Views on November 1st to 30th. Published: the 1st and the 13th to 17th. Derived: a straight line from the
1st to the 13th; after the 17th what is left of the published views of each weekday."""

ORDINARY_CARTS_PER_VIEW = 0.035
"""Derived: published carts over views of all Mondays, Tuesdays and Wednesdays, 0.0345 to 0.0357."""

PROMOTION_CARTS_PER_VIEW = {14: 0.0576, 15: 0.0903, 16: 0.0694, 17: 0.0720}
"""The promotion's days of November. Derived: what is left of the published carts of that weekday when the
other days of the weekday have ORDINARY_CARTS_PER_VIEW."""

HOUR_SHARES = (
    0.0070, 0.0095, 0.0190, 0.0300, 0.0410, 0.0480, 0.0510, 0.0530, 0.0540, 0.0540, 0.0540, 0.0550,
    0.0570, 0.0610, 0.0645, 0.0665, 0.0667, 0.0630, 0.0530, 0.0380, 0.0238, 0.0140, 0.0095, 0.0075,
)  # fmt: skip
"""Share of a day's events in each hour, UTC. Hours 0 and 16 derived: 0.13 and 1.24 of the 18.59 thousand
million that all view prices sum to. The others chosen: quiet from 21 to 1, busiest from 13 to 17
(published)."""

# --- sub-categories: the second level of the category code ---
SUBCATEGORY_VIEWS = {
    "smartphone": 14_831_874,
    "kitchen": 5_580_606,
    "shoes": 2_353_085,
    "audio": 2_193_080,
    "notebook": 2_102_974,
    "video": 2_093_688,
    "environment": 2_009_333,
    "clocks": 1_994_394,
    "accessories": 1_164_246,
    "living_room": 1_043_209,
}
"""The ten most viewed (published)."""

SUBCATEGORY_TYPE_SHARES = {
    "smartphone": (0.9058, 0.0708, 0.0234),
    "kitchen": (0.9496, 0.0394, 0.0110),
    "shoes": (0.9749, 0.0199, 0.0052),
    "notebook": (0.9644, 0.0271, 0.0085),
    "audio": (0.9184, 0.0623, 0.0194),
}
"""Shares of view, cart and purchase among a sub-category's events (published). All other sub-categories, and
events without one, share alike what these five leave of the totals (derived)."""

# --- categories: code, views, usual price ---
# A code's views count against the other codes of its sub-category where SUBCATEGORY_VIEWS has the sum, else
# against all other codes. Names, relative views and usual prices are chosen, after what such a shop sells.
CATEGORY_CODES = (
    ("accessories.bag", 400, 60), ("accessories.umbrella", 40, 25), ("accessories.wallet", 60, 39),
    ("apparel.belt", 15, 30), ("apparel.costume", 110, 92), ("apparel.dress", 60, 32),
    ("apparel.jacket", 40, 110), ("apparel.jeans", 50, 45), ("apparel.jumper", 30, 40),
    ("apparel.pajamas", 10, 28), ("apparel.scarf", 15, 18), ("apparel.shirt", 30, 30),
    ("apparel.shoes", 900, 77), ("apparel.shoes.ballet_shoes", 15, 40), ("apparel.shoes.keds", 1000, 68),
    ("apparel.shoes.moccasins", 60, 55), ("apparel.shoes.sandals", 90, 34),
    ("apparel.shoes.slipons", 130, 48), ("apparel.shoes.step_ins", 40, 50), ("apparel.shorts", 15, 25),
    ("apparel.skirt", 15, 30), ("apparel.sock", 10, 10), ("apparel.trousers", 60, 40),
    ("apparel.tshirt", 50, 28), ("apparel.underwear", 60, 16),
    ("appliances.environment.air_conditioner", 250, 215), ("appliances.environment.air_heater", 800, 34),
    ("appliances.environment.fan", 60, 30), ("appliances.environment.vacuum", 1200, 129),
    ("appliances.environment.water_heater", 450, 93), ("appliances.iron", 480, 24),
    ("appliances.ironing_board", 80, 34), ("appliances.kitchen.blender", 420, 51),
    ("appliances.kitchen.coffee_grinder", 40, 23), ("appliances.kitchen.coffee_machine", 90, 95),
    ("appliances.kitchen.dishwasher", 200, 360), ("appliances.kitchen.grill", 220, 113),
    ("appliances.kitchen.hob", 120, 275), ("appliances.kitchen.hood", 200, 94),
    ("appliances.kitchen.juicer", 80, 60), ("appliances.kitchen.kettle", 260, 17),
    ("appliances.kitchen.meat_grinder", 600, 72), ("appliances.kitchen.microwave", 420, 66),
    ("appliances.kitchen.mixer", 360, 33), ("appliances.kitchen.oven", 370, 72),
    ("appliances.kitchen.refrigerators", 1400, 296), ("appliances.kitchen.steam_cooker", 40, 36),
    ("appliances.kitchen.toster", 60, 36), ("appliances.kitchen.washer", 1400, 319),
    ("appliances.personal.hair_cutter", 70, 41), ("appliances.personal.massager", 60, 60),
    ("appliances.personal.scales", 50, 20), ("appliances.sewing_machine", 450, 248),
    ("appliances.steam_cleaner", 30, 120), ("auto.accessories.alarm", 670, 121),
    ("auto.accessories.compressor", 70, 102), ("auto.accessories.light", 30, 25),
    ("auto.accessories.parktronic", 20, 28), ("auto.accessories.player", 1000, 100),
    ("auto.accessories.radar", 40, 87), ("auto.accessories.videoregister", 500, 80),
    ("auto.accessories.winch", 10, 580), ("computers.components.cooler", 60, 32),
    ("computers.components.cpu", 110, 240), ("computers.components.hdd", 250, 40),
    ("computers.components.memory", 120, 42), ("computers.components.motherboard", 110, 87),
    ("computers.components.power_supply", 120, 75), ("computers.components.videocards", 220, 193),
    ("computers.desktop", 700, 573), ("computers.ebooks", 20, 100), ("computers.notebook", 1000, 592),
    ("computers.peripherals.camera", 10, 35), ("computers.peripherals.joystick", 20, 60),
    ("computers.peripherals.keyboard", 120, 18), ("computers.peripherals.monitor", 400, 104),
    ("computers.peripherals.mouse", 150, 36), ("computers.peripherals.printer", 200, 117),
    ("computers.peripherals.wifi", 30, 40), ("construction.components.faucet", 30, 30),
    ("construction.tools.drill", 260, 69), ("construction.tools.generator", 100, 85),
    ("construction.tools.light", 90, 7), ("construction.tools.painting", 20, 60),
    ("construction.tools.pump", 100, 49), ("construction.tools.saw", 240, 116),
    ("construction.tools.screw", 40, 60), ("construction.tools.welding", 130, 201),
    ("country_yard.cultivator", 10, 350), ("country_yard.furniture.hammok", 40, 200),
    ("country_yard.lawn_mower", 10, 200), ("electronics.audio.acoustic", 180, 100),
    ("electronics.audio.headphone", 2600, 100), ("electronics.audio.microphone", 100, 40),
    ("electronics.audio.music_tools.piano", 10, 400), ("electronics.audio.subwoofer", 300, 80),
    ("electronics.calculator", 10, 12), ("electronics.camera.photo", 60, 450),
    ("electronics.camera.video", 80, 250), ("electronics.clocks", 1000, 170),
    ("electronics.smartphone", 1000, 180), ("electronics.tablet", 500, 200),
    ("electronics.telephone", 650, 23), ("electronics.video.projector", 80, 230),
    ("electronics.video.tv", 1400, 320), ("furniture.bathroom.bath", 40, 150),
    ("furniture.bathroom.toilet", 110, 120), ("furniture.bedroom.bed", 680, 220),
    ("furniture.bedroom.blanket", 20, 35), ("furniture.bedroom.pillow", 90, 25),
    ("furniture.kitchen.chair", 360, 50), ("furniture.kitchen.table", 340, 110),
    ("furniture.living_room.cabinet", 940, 150), ("furniture.living_room.chair", 140, 90),
    ("furniture.living_room.shelving", 60, 60), ("furniture.living_room.sofa", 780, 350),
    ("furniture.universal.light", 30, 40), ("kids.carriage", 290, 220), ("kids.dolls", 40, 40),
    ("kids.fmcg.diapers", 60, 12), ("kids.skates", 130, 150), ("kids.swing", 20, 60), ("kids.toys", 100, 35),
    ("medicine.tools.tonometer", 50, 40), ("sport.bicycle", 360, 200), ("sport.snowboard", 20, 300),
    ("sport.tennis", 10, 60), ("sport.trainer", 40, 300), ("stationery.cartrige", 110, 40),
)  # fmt: skip
PRICE_WITHOUT_CATEGORY_CODE = 75
"""The usual price of a category without a code (chosen)."""

# --- brands ---
BRAND_ROWS = {
    "samsung": 7_890_000,
    "apple": 6_260_000,
    "xiaomi": 4_640_000,
    "huawei": 1_410_000,
    "nan": 5_843,
}
"""Published. `nan` is a real brand, which many a reader takes for a missing value."""

BRAND_SHARES = {
    "appliances.environment.vacuum": {"samsung": 0.18, "xiaomi": 0.10, "karcher": 0.18, "philips": 0.08},
    "appliances.environment.water_heater": {"ariston": 0.45, "artel": 0.15},
    "appliances.kitchen.microwave": {"samsung": 0.12, "lg": 0.20, "elenberg": 0.20},
    "appliances.kitchen.refrigerators": {"samsung": 0.10, "lg": 0.16, "indesit": 0.16, "beko": 0.09},
    "appliances.kitchen.washer": {"samsung": 0.48, "lg": 0.19, "indesit": 0.10, "beko": 0.08},
    "appliances.sewing_machine": {"janome": 0.65, "bernina": 0.20},
    "auto.accessories.alarm": {"starline": 0.65},
    "auto.accessories.player": {"pioneer": 0.22, "jvc": 0.14, "kenwood": 0.06},
    "computers.desktop": {"pulser": 0.38, "acer": 0.17, "apple": 0.05, "hp": 0.06},
    "computers.notebook": {"lenovo": 0.29, "acer": 0.25, "hp": 0.21, "asus": 0.11, "apple": 0.08},
    "computers.peripherals.monitor": {"samsung": 0.24, "lg": 0.14, "acer": 0.11},
    "computers.peripherals.printer": {"epson": 0.45, "canon": 0.25, "hp": 0.20},
    "electronics.audio.headphone": {
        "apple": 0.32,
        "xiaomi": 0.22,
        "samsung": 0.12,
        "sony": 0.06,
        "huawei": 0.02,
    },
    "electronics.clocks": {"casio": 0.21, "samsung": 0.14, "apple": 0.14, "xiaomi": 0.05, "huawei": 0.02},
    "electronics.tablet": {"samsung": 0.44, "apple": 0.26, "huawei": 0.10, "lenovo": 0.08},
    "electronics.telephone": {"nokia": 0.35, "texet": 0.22, "bq": 0.15},
    "electronics.video.tv": {"samsung": 0.50, "artel": 0.14, "lg": 0.10, "xiaomi": 0.05, "sony": 0.05},
    "": {"xiaomi": 0.035, "samsung": 0.015, "apple": 0.010, "lucente": 0.040, "cordiant": 0.025},
}
"""Chosen shares of brands in a category ("" for those without a code). Smartphones take what these leave of
the published four."""

BRANDLESS_SHARES = {
    "accessories": 0.20,
    "apparel": 0.15,
    "appliances": 0.05,
    "auto": 0.25,
    "computers": 0.03,
    "construction": 0.25,
    "country_yard": 0.25,
    "electronics": 0.02,
    "furniture": 0.55,
    "kids": 0.25,
    "medicine": 0.05,
    "sport": 0.20,
    "stationery": 0.10,
}
"""Chosen share of events without a brand, by first level. Smartphones have none; categories without a code
take what these leave of ROWS_WITHOUT_BRAND."""

OTHER_BRANDS = {
    "accessories": ("karya", "baden", "hoco", "wenger"),
    "apparel": ("respect", "strobbs", "rieker", "shagovita", "asics", "puma", "salamander", "caprice"),
    "appliances": ("bosch", "redmond", "polaris", "dauscher", "elenberg", "scarlett", "philips", "tefal"),
    "auto": ("sho-me", "prestigio", "ibox", "alphard", "pandora"),
    "computers": ("msi", "gigabyte", "logitech", "kingston", "dell", "transcend", "intel"),
    "construction": ("bosch", "makita", "huter", "crown", "alteco", "denzel", "stihl"),
    "country_yard": ("palisad", "ventara", "gardena"),
    "electronics": ("oppo", "vivo", "sony", "meizu", "honor", "oneplus", "jbl", "philips", "canon"),
    "furniture": ("brw", "sv", "bts", "zeta", "domini", "cersanit"),
    "kids": ("lorelli", "chicco", "belecoo", "huggies", "joie"),
    "medicine": ("omron", "microlife"),
    "sport": ("stels", "axis", "giant", "thule"),
    "stationery": ("hp", "canon", "xerox"),
    "": (
        *(
            "triangle",
            "yokohama",
            "luminarc",
            "skad",
            "nokian",
            "sokolov",
            "matador",
            "viatti",
            "force",
            "vitek",
        ),
        *(
            "gipfel",
            "karya",
            "toro",
            "kipardo",
            "shiseido",
            "strobbs",
            "fender",
            "oasis",
            "gerat",
            "svc",
            "pulser",
        ),
    ),
}
"""The better-known of a first level's other brands; names put together from syllables make up the rest of
BRANDS."""

BRAND_PRICE_FACTORS = {"apple": 2.6, "samsung": 1.1, "xiaomi": 0.7, "huawei": 0.9}
"""A brand's usual price over its category's (chosen)."""

# --- behaviour ---
VIEWS_PER_JOURNEY = 1.4
"""How often one session looks at one product (chosen)."""

JOURNEYS_EXPONENT = 1.7246
"""A session looks at k products with a weight of k ** -JOURNEYS_EXPONENT, k up to 30. Derived: 3.295 products
a session, so that with VIEWS_PER_JOURNEY a session has the published 4.9 events."""

PURCHASES_FROM_CART_SHARE = 0.6
"""Purchases with a cart event of the same product and session before; the others follow a view (chosen)."""

SAME_CATEGORY_SHARE = 0.6
"""Products that a session looks at in the category it began with (chosen)."""

RETURNING_SHARE = 0.15
"""Sessions of a user who had another session within the hour or so (chosen)."""

SECONDS_BETWEEN_EVENTS = 45.0
"""Mean pause between two events of a session (chosen)."""
