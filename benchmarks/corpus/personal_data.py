"""Measures how much planted personal data the redaction finds, and what it replaces in clean film turns.

python -m benchmarks.corpus.personal_data [CORPUS] [--items 2000] [--turns 10000]
    CORPUS is a zip in the Cornell layout, without it the sample corpus is generated; takes some seconds

Every item is generated in the forms in which people write it, planted into a turn between two words, and
counts as found if the redacted turn contains the word for its kind and nothing of the item. A clean turn is
one into which nothing is planted: what is replaced in it is printed, so that a person can judge it.
"""

import argparse
import random
import time
import zipfile
from ipaddress import IPv6Address
from pathlib import Path

from corpus.sample import generator as sample
from models.markdown import markdown_table
from models.text.identifiers import has_luhn_check_digit
from models.text.normalisation import normalise
from models.text.redaction import redact

SEED = 20_261_128
PHONE_FORMS = (
    "+49 17# #######", "+4917########", "0049 17# #######", "0049 (0)30 #######", "(2##) ###-####",
    "3##-###-####", "4##.###.####", "5## ### ####", "+1-6##-###-####", "+1 (7##) ###-#### x##",
    "1-8##-###-####", "01 ## ## ## ##", "06.##.##.##.##", "+33 6 ## ## ## ##", "020 7### ####",
    "07### ######", "+44 20 7### ####", "030/#######", "0171-#######", "(089) ######", "+86 138 #### ####",
    "+91 98### #####", "+55 11 9####-####", "+39 06 #### ####", "+7 9## ###-##-##",
)  # fmt: skip
# fmt: off
CARD_FORMS = ("4" + "#" * 15, "51" + "#" * 14, "2221" + "#" * 12, "37" + "#" * 13, "6011" + "#" * 12,
              "36" + "#" * 12, "4" + "#" * 12, "62" + "#" * 17)
IBAN_FORMS = ("DE" + "#" * 18, "FR" + "#" * 10 + "M" + "#" * 12, "GBWEST" + "#" * 14, "ES" + "#" * 20,
              "NLABNA" + "#" * 10, "NO" + "#" * 11, "CH" + "#" * 17, "PL" + "#" * 24, "ITX" + "#" * 22)
# fmt: on
URL_FORMS = (
    "https://{name}:{word}@{host}/files",
    "ftp://{name}:{word}@{host}:21",
    "https://{host}/x?token={word}",
    "https://{host}/?page=2&api_key={word}",
    "postgresql://{name}:{word}@{host}:5432/db",
    "https://{host}/login?user=1&password={word}#top",
    "https://{host}/callback#access_token={word}",
    "http://{host}/?client_secret={word}",
)  # fmt: skip
NAMES = ("ann", "bob.smith", "j.r+films", "o_neil", "mary-jane", "müller", "k9", "info")
HOSTS = ("example.com", "mail.example.co.uk", "müller.de", "x-films.org", "пример.рф", "uni.example.edu")


def filled(form: str, rng: random.Random) -> str:
    return "".join(str(rng.randrange(10)) if mark == "#" else mark for mark in form)


def grouped(text: str, rng: random.Random, separators: str) -> str:
    """The text without separators, or in groups of four."""
    separator = rng.choice(["", *separators])
    return separator.join(text[i : i + 4] for i in range(0, len(text), 4)) if len(text) % 4 != 1 else text


def email(rng: random.Random) -> tuple[str, str]:
    text = f"{rng.choice(NAMES)}{rng.choice(['', rng.randrange(100)])}@{rng.choice(HOSTS)}"
    return (text.upper() if rng.random() < 0.1 else text), text


def phone(rng: random.Random) -> tuple[str, str]:
    text = filled(rng.choice(PHONE_FORMS), rng)
    return text, text


def card(rng: random.Random) -> tuple[str, str]:
    digits = filled(rng.choice(CARD_FORMS), rng)[:-1]
    text = next(digits + str(check) for check in range(10) if has_luhn_check_digit(digits + str(check)))
    return grouped(text, rng, " -"), text


def iban(rng: random.Random) -> tuple[str, str]:
    form = filled(rng.choice(IBAN_FORMS), rng)
    country, account = form[:2], form[2:]
    number = int("".join(str(int(mark, 36)) for mark in f"{account}{country}00"))
    text = f"{country}{98 - number % 97:02}{account}"
    return grouped(text, rng, " "), text


def ip(rng: random.Random) -> tuple[str, str]:
    if rng.random() < 0.6:
        text = ".".join(str(rng.randrange(1, 255)) for _ in range(4))
    else:
        address = IPv6Address((0x2001 << 112) + rng.getrandbits(rng.choice([16, 64, 112])))
        text = rng.choice([address.compressed, address.exploded])
    return text, text


def credentials(rng: random.Random) -> tuple[str, str]:
    word = "".join(rng.choices("abcdefghXYZ0123456789_-.!$%", k=rng.randrange(6, 24)))
    form = rng.choice(URL_FORMS)
    return form.format(name=rng.choice(NAMES[:3]), word=word, host=rng.choice(HOSTS)), word


PLANTERS = {"email": email, "phone": phone, "card": card, "iban": iban, "ip": ip, "credentials": credentials}


def read_turns(corpus: Path | None, count: int, rng: random.Random) -> list[str]:
    """Turns of a zip in the Cornell layout, chosen at random, or of the sample corpus."""
    if corpus is None:
        turns = [line for each in sample.conversations(turns=count, seed=SEED) for line in each.lines]
    else:
        with zipfile.ZipFile(corpus) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/movie_lines.txt"))
            lines = archive.read(name).decode("cp1252", "replace").split("\n")
        turns = [fields[4] for line in lines if len(fields := line.split(" +++$+++ ")) > 4]
    turns = [text for turn in turns if (text := normalise(turn, "plain"))]
    return rng.sample(turns, min(count, len(turns)))


def plant(item: str, turn: str, rng: random.Random) -> str:
    """The turn with the item between two words, sometimes with a mark or in brackets."""
    words = turn.split()
    position = rng.randrange(len(words) + 1)
    item = rng.choice(["{}", "{}", "{}.", "{},", "({})", '"{}"', "{}?", "mail:{}"]).format(item)
    return " ".join([*words[:position], item, *words[position:]])


def recall(turns: list[str], items: int, rng: random.Random) -> list[dict[str, object]]:
    """A row for each kind; prints the planted turns in which the item was not found."""
    rows = []
    for number, (kind, planter) in enumerate(PLANTERS.items()):
        planted = (items - number + len(PLANTERS) - 1) // len(PLANTERS)
        found = 0
        for _ in range(planted):
            item, secret = planter(rng)
            turn = normalise(plant(item, rng.choice(turns), rng), "plain")
            redacted, counts = redact(turn)
            is_found = kind in counts and item not in redacted and secret not in redacted
            found += is_found
            if not is_found:
                print(f"{kind} {item!r} was not found: {redacted}")
        rows.append({"kind": kind, "planted": planted, "found": found, "recall": f"{found / planted:.1%}"})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus.personal_data")
    parser.add_argument("corpus", type=Path, nargs="?")
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=10_000)
    arguments = parser.parse_args()
    rng = random.Random(SEED)
    turns = read_turns(arguments.corpus, arguments.turns, rng)
    rows = recall(turns, arguments.items, rng)
    started_s = time.process_time()
    redacted = [redact(turn) for turn in turns]
    cpu_s = time.process_time() - started_s
    changed = [(turn, counts) for turn, (_, counts) in zip(turns, redacted, strict=True) if counts]
    for turn, counts in changed:
        print(f"replaced in a clean turn: {counts} in {turn!r}")
    print(markdown_table(rows))
    print(f"{len(changed)} of {len(turns):,} clean turns were changed; {cpu_s:.2f} s of CPU time")


if __name__ == "__main__":
    main()
