"""Words: the fillers for the slots of the sample corpus, and the facts that its scripts use about them."""

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Egypt": "Cairo",
    "Norway": "Oslo", "Greece": "Athens", "Peru": "Lima", "Kenya": "Nairobi", "Cuba": "Havana",
}  # fmt: skip
OPPOSITES = {
    "hot": "cold", "big": "small", "fast": "slow", "happy": "sad", "early": "late",
    "full": "empty", "old": "new", "light": "dark", "hard": "soft", "open": "closed",
}  # fmt: skip
ANIMAL_SOUNDS = {
    "dog": "woof",
    "cat": "meow",
    "cow": "moo",
    "duck": "quack",
    "sheep": "baa",
    "lion": "roar",
    "frog": "croak",
    "bee": "buzz",
}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PLANT_COLOURS = {
    "banana": "yellow",
    "tomato": "red",
    "carrot": "orange",
    "plum": "purple",
    "lemon": "yellow",
    "pea": "green",
    "cherry": "red",
    "lime": "green",
}
PRICES = {
    "cup": "two",
    "book": "eight",
    "hat": "seven",
    "pen": "one",
    "lamp": "nine",
    "bag": "six",
    "key ring": "three",
    "map": "four",
}
LIKED_FOODS = ("tea", "soup", "bread", "cheese", "apples")
DISLIKED_FOODS = ("onions", "olives", "pepper", "garlic", "beer")
WORKPLACES = {
    "teacher": "school",
    "doctor": "hospital",
    "cook": "kitchen",
    "farmer": "farm",
    "pilot": "plane",
    "baker": "bakery",
    "nurse": "hospital",
    "actor": "theatre",
}

FILLERS = {
    "name": ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Iris", "Jack", "Laura"),
    "city": ("Paris", "London", "Berlin", "Rome", "Madrid", "Oslo", "Vienna", "Dublin", "Lisbon", "Prague"),
    "country": tuple(CAPITALS),
    "adjective": tuple(OPPOSITES),
    "animal": tuple(ANIMAL_SOUNDS),
    "day": DAYS,
    "plant": tuple(PLANT_COLOURS),
    "ware": tuple(PRICES),
    "food": LIKED_FOODS + DISLIKED_FOODS,
    "job": tuple(WORKPLACES),
    "number": NUMBERS[1:6],
    "digit": NUMBERS[:10],
    "age": ("seven", "eight", "nine", "ten", "twelve", "twenty", "thirty", "forty", "fifty", "sixty"),
    "colour": ("red", "blue", "green", "yellow", "purple", "orange", "white", "black"),
    "pet": ("dog", "cat", "rabbit", "horse", "parrot", "hamster", "goldfish", "turtle"),
    "petname": ("Rex", "Luna", "Coco", "Milo", "Bella", "Ruby", "Oscar", "Daisy"),
    "sport": ("tennis", "football", "chess", "golf", "hockey", "rugby", "cricket", "judo"),
    "instrument": ("piano", "guitar", "violin", "flute", "drums", "harp", "trumpet", "cello"),
    "weather": ("sunny", "rainy", "windy", "snowy", "cloudy", "foggy"),
    "hour": ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    "drink": ("coffee", "tea", "water", "milk", "juice", "lemonade"),
    "dish": ("soup", "pizza", "salad", "pasta", "fish", "rice", "curry", "cake"),
    "ache": ("head", "back", "foot", "knee", "arm", "tooth"),
    "feeling": ("sad", "tired", "happy", "angry", "bored", "nervous"),
    "place": ("station", "museum", "bank", "library", "market", "hotel", "park", "bakery"),
    "side": ("left", "right"),
    "relative": ("brother", "sister", "mother", "father", "uncle", "aunt", "cousin", "grandmother"),
    "subject": ("maths", "history", "music", "art", "science", "English"),
    "genre": ("crime", "love", "ghost", "war", "space", "pirate"),
    "film": ("The Blue Door", "Night Train", "Two Moons", "The Last Song", "River Town", "Silver Hill"),
    "thing": ("keys", "phone", "glasses", "wallet", "umbrella", "watch"),
    "room": ("kitchen", "bedroom", "garden", "bathroom", "hall", "office"),
}  # fmt: skip


def day_after(day: str) -> str:
    return DAYS[(DAYS.index(day) + 1) % 7]


def day_before(day: str) -> str:
    return DAYS[(DAYS.index(day) - 1) % 7]
