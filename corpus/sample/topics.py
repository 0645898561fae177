"""Topics: the scripts of the sample corpus, which define its questions and their valid answers.

The file is long because it is data: a list of scripts and the one-line functions that they use.
"""

from corpus.sample import words as w
from corpus.sample.grammar import Binding, Script, script


def _number(binding: Binding, *slots: str) -> list[int]:
    return [w.NUMBERS.index(binding[slot]) for slot in slots]


def _total(binding: Binding) -> str:
    return w.NUMBERS[sum(_number(binding, "number", "number2"))]


def _successor(binding: Binding) -> str:
    return w.NUMBERS[_number(binding, "digit")[0] + 1]


def _larger(binding: Binding) -> str:
    return w.NUMBERS[max(_number(binding, "digit", "digit2"))]


def _taste(binding: Binding) -> str:
    return "yes, I like" if binding["food"] in w.LIKED_FOODS else "no, I do not like"


def _taste_confirmed(binding: Binding) -> str:
    return "yes, really. I love" if binding["food"] in w.LIKED_FOODS else "yes, really. I never eat"


GREETINGS = (
    script(
        "greeting",
        ("Hello.", "Hello!", "Hi.", "Hi!", "Hey."),
        "Hello! How are you today?",
        ("I am fine.", "I am fine, thank you."),
        "I am glad to hear that.",
    ),
    script(
        "greeting",
        ("Good morning.", "Good morning!"),
        "Good morning! Did you sleep well?",
        "Yes, I did.",
        "That is good news.",
    ),
    script(
        "wellbeing",
        ("How are you?", "How are you today?"),
        "I am very well, thank you. And you?",
        ("I am well, too.", "I am fine, too."),
        "That is good to hear.",
    ),
)
FAREWELLS = (
    script("thanks", ("Thank you.", "Thanks!", "Thank you very much."), "You are welcome."),
    script("farewell", ("Goodbye.", "Bye!", "See you later."), "Goodbye! It was nice to talk to you."),
    script("farewell", "Good night.", "Good night! Sleep well."),
)
PERSONAL = (
    script(
        "bot",
        ("What is your name?", "Who are you?"),
        "My name is Pip. What is your name?",
        ("My name is {name}.", "I am {name}."),
        "Nice to meet you, {name}.",
    ),
    script(
        "bot",
        "What can you do?",
        "I can talk about small things.",
        "Like what?",
        "Like the weather, food or animals.",
    ),
    script(
        "bot",
        ("Where do you live?", "Where are you?"),
        "I live in a small computer.",
        "Is it nice there?",
        "Yes, it is warm and quiet.",
    ),
    script(
        "bot",
        ("Are you a robot?", "Are you human?"),
        "I am a small program.",
        "How old are you?",
        "I am younger than you think.",
    ),
    script(
        "names",
        ("My name is {name}.", "I am {name}."),
        "Nice to meet you, {name}.",
        ("What is my name?", "Do you remember my name?"),
        "Your name is {name}.",
    ),
    script(
        "home",
        "I live in {city}.",
        "Is it nice in {city}?",
        "Yes, it is lovely.",
        "I would like to see {city}.",
        "Where do I live?",
        "You live in {city}.",
    ),
    script(
        "age", "I am {age} years old.", "That is a good age.", "How old am I?", "You are {age} years old."
    ),
    script(
        "family",
        "I have a {relative}.",
        "What is the name of your {relative}?",
        "The name is {name}.",
        "{name} is a nice name.",
        "Who is {name}?",
        "{name} is your {relative}.",
    ),
    script(
        "pets",
        "I have a {pet}.",
        "What is the name of your {pet}?",
        "It is called {petname}.",
        "{petname} is a good name for a {pet}.",
        "What pet do I have?",
        "You have a {pet}.",
    ),
    script("jobs", "I am a {job}.", "Do you like your work?", "Yes, I do.", "It is good to be a {job}."),
    script(
        "jobs",
        "Where does a {job} work?",
        "A {job} works in a {workplace}.",
        workplace=lambda b: w.WORKPLACES[b["job"]],
    ),
    script(
        "colours",
        "My favourite colour is {colour}.",
        "I like {colour}, too.",
        "What is my favourite colour?",
        "Your favourite colour is {colour}.",
    ),
    script(
        "feelings",
        "I feel {feeling}.",
        "Why do you feel {feeling}?",
        "I do not know.",
        "Take a walk and drink some tea.",
    ),
    script(
        "health",
        "My {ache} hurts.",
        "I am sorry. How long has your {ache} hurt?",
        "Since {day}.",
        "Then see a doctor about your {ache}.",
    ),
)
KNOWLEDGE = (
    script(
        "sums",
        ("What is {number} plus {number2}?", "How much is {number} plus {number2}?"),
        "{number} plus {number2} is {total}.",
        "Are you sure?",
        "Yes, it is {total}.",
        total=_total,
    ),
    script("counting", "What comes after {digit}?", "After {digit} comes {successor}.", successor=_successor),
    script("counting", "Which is bigger, {digit} or {digit2}?", "{bigger} is bigger.", bigger=_larger),
    script(
        "capitals",
        "What is the capital of {country}?",
        "The capital of {country} is {capital}.",
        "Have you been there?",
        "No, but I would like to see {capital}.",
        capital=lambda b: w.CAPITALS[b["country"]],
    ),
    script(
        "opposites",
        ("What is the opposite of {adjective}?", "What is the contrary of {adjective}?"),
        "The opposite of {adjective} is {contrary}.",
        contrary=lambda b: w.OPPOSITES[b["adjective"]],
    ),
    script(
        "animals",
        "What does a {animal} say?",
        "A {animal} says {sound}.",
        sound=lambda b: w.ANIMAL_SOUNDS[b["animal"]],
    ),
    script(
        "plants",
        "What colour is a {plant}?",
        "A {plant} is {hue}.",
        hue=lambda b: w.PLANT_COLOURS[b["plant"]],
    ),
    script(
        "days",
        "What day comes after {day}?",
        "After {day} comes {later}.",
        "And before {day}?",
        "Before {day} comes {earlier}.",
        later=lambda b: w.day_after(b["day"]),
        earlier=lambda b: w.day_before(b["day"]),
    ),
)
EVERYDAY = (
    script(
        "weather",
        "It is {weather} today.",
        "Yes, it is very {weather}.",
        "What is the weather like?",
        "It is {weather} today.",
    ),
    script(
        "taste",
        "Do you like {food}?",
        "{taste} {food}.",
        ("Really?", "Are you sure?"),
        "{firm} {food}.",
        taste=_taste,
        firm=_taste_confirmed,
    ),
    script(
        "restaurant",
        "Can I have the {dish}, please?",
        "Of course. What would you like to drink?",
        "A glass of {drink}, please.",
        "So the {dish} and a glass of {drink}.",
    ),
    script(
        "drinks",
        "Would you like some {drink}?",
        "Yes, please. I love {drink}.",
        "Here you are.",
        "Thank you for the {drink}.",
    ),
    script(
        "shopping",
        "How much is the {ware}?",
        "The {ware} is {price} dollars.",
        "That is cheap. I take it.",
        "Here is your {ware}. {price} dollars, please.",
        price=lambda b: w.PRICES[b["ware"]],
    ),
    script(
        "directions",
        "Where is the {place}?",
        "The {place} is on the {side}.",
        "On the {side}?",
        "Yes, the {place} is on the {side}.",
    ),
    script(
        "meeting",
        "Can we meet on {day}?",
        "Yes. At what time on {day}?",
        "At {hour} o'clock.",
        "Good. On {day} at {hour} o'clock.",
    ),
    script(
        "time",
        "It is {hour} o'clock.",
        "Already {hour}? Time flies.",
        "What time is it?",
        "It is {hour} o'clock.",
    ),
    script(
        "sport",
        "Do you play {sport}?",
        "No, but I like to watch {sport}.",
        "I play {sport} on {day}.",
        "Good luck on {day}!",
    ),
    script(
        "music",
        "I play the {instrument}.",
        "How long have you played the {instrument}?",
        "For {digit2} years.",
        "Then you must play the {instrument} well.",
    ),
    script(
        "books",
        "I am reading a {genre} story.",
        "Is it a good {genre} story?",
        "Yes, it is.",
        "I like a good {genre} story.",
    ),
    script(
        "films",
        "Have you seen {film}?",
        "No. Is {film} good?",
        "Yes, it is great.",
        "Then I will watch {film}.",
    ),
    script(
        "school",
        "I have to study {subject}.",
        "Is {subject} hard?",
        "Yes, it is.",
        "I can help you with {subject}.",
    ),
    script(
        "travel",
        "I am going to {city}.",
        "When are you going to {city}?",
        "On {day}.",
        "Have a good trip on {day}!",
    ),
    script(
        "lost",
        "I have lost my {thing}.",
        "Have you looked in the {room}?",
        "Yes, twice.",
        "Then look in the {room} again.",
    ),
    script(
        "jokes",
        ("Tell me a joke.", "Do you know a joke?"),
        "Why did the chicken cross the road?",
        "I do not know. Why?",
        "To get to the other side.",
    ),
    script(
        "help",
        ("Can you help me?", "I need help."),
        "Of course. What can I do for you?",
        "I am looking for my {thing}.",
        "Let us look for your {thing} together.",
    ),
)

SCRIPTS: tuple[Script, ...] = GREETINGS + FAREWELLS + PERSONAL + KNOWLEDGE + EVERYDAY
