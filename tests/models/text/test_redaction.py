"""Tests of the redaction: what is replaced, what is not, and that it takes linear time and is idempotent."""

import time

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.text.normalisation import normalise
from models.text.redaction import KINDS, changing_pattern, prepare, redact

ITEMS = {
    "email": [
        "bob@x.com", "a.b+tag@mail.example.co.uk", "müller@müller.de", "имя@пример.рф", "O'Neil@x.org",
        "b_2@xn--mller-kva.de",
    ],
    "phone": [
        "+49 170 1234567", "+4917012345678", "0049 170 1234567", "(555) 123-4567", "555-123-4567",
        "01 23 45 67 89", "+1-555-123-4567 x12", "+1 (555) 123-4567x12", "555.123.4567 ext. 9", "030/1234567",
        "(030) 123 45 67", "+49 (0)30 1234567", "07700 900123", "020 7946 0958", "1-800-555-0199",
        "138 0013 8000", "0612345678", "(+49) 170 1234567", "00491701234567",
    ],
    "card": [
        "4111 1111 1111 1111", "4111-1111-1111-1111", "4111111111111111", "378282246310005",
        "3782 822463 10005", "5555 5555 5555 4444", "6011111111111117", "30569309025904", "3056-9309-0259-04",
    ],
    "iban": [
        "DE89 3704 0044 0532 0130 00", "de89370400440532013000", "GB82WEST12345698765432", "NO9386011117947",
        "FR14 2004 1010 0505 0001 3M02 606",
    ],
    "ip": [
        "192.168.0.1", "8.8.8.8", "2001:db8::1", "fe80::1", "::1", "::ffff:10.0.0.1",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
    ],
}  # fmt: skip
NO_ITEMS = [
    "apartment 555", "Call 911!", "1,000,000 dollars", "5-4-3-2-1", "10,000", "In 1999 or 2001.", "$1,000.50",
    "at 12:30:45", "01/02/2023 10:30", "2023-01-02 03:04:05", "01.02.2023 1030", "12/01/2023 1030",
    "4:30, 5-6, 7.5 %", "1 2 3 4 5 6 7 8 9 10", "01 02 03 04 05", "I have 5551234567 items", "3.14159265358979",
    "3.4111111111111111", "4111 1111 1111 1112", "DE89370400440532013001", "version 1.2.3.4", "v1.2.3.4",
    "1.2.3", "1.1.1.1.1", "10.0.0.256", "4::30", "std::vector<int>", "a at b dot c", "@bob", "bob@localhost",
    "https://medium.com/@bob", "https://x.org/?page=3#part=4", "Room 4111-1111", "call 1000000 people",
    "10 000 000 000", "2.000.000.000", "00:1a:2b:3c:4d:5e", "007", "24/7", "1600 Pennsylvania Avenue",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "item"), [(kind, item) for kind in ITEMS for item in ITEMS[kind]])
def test_an_item_becomes_a_word_for_its_kind_and_the_text_around_it_stays(kind: str, item: str) -> None:
    assert redact(f"It is {item}, I think.") == (f"It is [{kind}], I think.", {kind: 1})
    assert redact(f"{item}.") == (f"[{kind}].", {kind: 1})
    assert redact(f'"{item}"') == (f'"[{kind}]"', {kind: 1})


@pytest.mark.parametrize("text", NO_ITEMS)
def test_other_numbers_and_marks_stay(text: str) -> None:
    assert redact(text) == (text, {})
    assert redact(f"Well, {text} then?") == (f"Well, {text} then?", {})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("https://bob:s3cret@h.org/x", "https://[credentials]@h.org/x"),
        ("ftp://bob:s3@cret@10.0.0.1:21", "ftp://[credentials]@[ip]:21"),
        ("https://ghp_123@h.org", "https://[credentials]@h.org"),
        ("https://h.org/?a=1&token=abc&b=2", "https://h.org/?a=1&token=[credentials]&b=2"),
        ("h.org?api_key=abc and so on", "h.org?api_key=[credentials] and so on"),
        ("https://h.org/#access_token=a.b-c", "https://h.org/#access_token=[credentials]"),
        ("https://h.org/?accessToken=x&user-password=y",
         "https://h.org/?accessToken=[credentials]&user-password=[credentials]"),
        ("https://h.org/?secret=s", "https://h.org/?secret=[credentials]"),
    ],
)  # fmt: skip
def test_of_an_address_only_the_credentials_are_replaced(text: str, wanted: str) -> None:
    assert redact(text)[0] == wanted


def test_several_items_of_a_text_are_all_replaced_and_counted() -> None:
    text = "Call 0170 1234567/0171 7654321 or +49 30 123456, pay 4111 1111 1111 1111, not 10.0.0.1, a@b.de."
    wanted = "Call [phone]/[phone] or [phone], pay [card], not [ip], [email]."
    assert redact(text) == (wanted, {"phone": 3, "card": 1, "ip": 1, "email": 1})


def test_words_before_a_number_decide_whether_its_digits_alone_are_a_phone_number() -> None:
    assert redact("You can call me at 5551234567.")[0] == "You can call me at [phone]."
    assert redact("My number is 555-0134.")[0] == "My number is [phone]."
    assert redact("The order 5551234567 has 555-0134 parts.")[1] == {}


PIECES = st.sampled_from(
    [item for items in ITEMS.values() for item in items]
    + [text[:9] for text in NO_ITEMS]
    + [f"[{kind}]" for kind in KINDS]
    + [
        *"+-.,:/@()[]=?&#% x",
        "://",
        "::",
        "00",
        "12",
        "call ",
        "token=",
        "?key=",
        "$",
        " ext 5",
        "a1",
        "1.",
        "é",
    ]
)
TEXTS = st.text() | st.lists(PIECES, max_size=12).map("".join) | st.text("0123456789 +-.:/@()", max_size=60)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0@0.AA::1", "[email][ip]"),
        ("000::G@0.AA", "[ip][email]"),
        (f"0100000000.{64 * '0'}@x.de", "[phone].[email]"),
        ("0://010000 000@", "0://[credentials]@"),
    ],
)
def test_the_search_is_repeated_after_a_replacement_that_makes_an_item_of_its_neighbour(
    text: str, wanted: str
) -> None:
    assert redact(text)[0] == wanted
    assert redact(wanted) == (wanted, {})


@given(TEXTS)
def test_a_redacted_text_does_not_change_again(text: str) -> None:
    once, _ = redact(text)
    assert redact(once) == (once, {})


@given(TEXTS, st.sampled_from(["plain", "article"]))
def test_a_prepared_text_does_not_change_again(text: str, style) -> None:
    once, _ = prepare(text, style=style, redaction="personal")
    assert prepare(once, style=style, redaction="personal") == (once, {})


@given(st.text(st.characters(exclude_categories=("Nd", "Cs"), exclude_characters="@:=")))
def test_a_text_without_digits_and_marks_stays_byte_by_byte(text: str) -> None:
    assert redact(text) == (text, {})


@pytest.mark.parametrize("redaction", ["none", "personal"])
@pytest.mark.parametrize(
    "text", [" a", "a ", "a  b", "can ' t", "&lt;", "a<b>c", "`a`", "a\tb", "cafe\u0301"]
)
def test_a_part_that_normalisation_changes_is_found_in_a_column(text: str, redaction) -> None:
    assert prepare(text, style="plain", redaction=redaction)[0] != text
    assert is_found(text, "plain", redaction)


@given(TEXTS, st.sampled_from(["plain", "article"]), st.sampled_from(["personal", "none"]))
def test_every_text_that_changes_is_found_in_a_column(text: str, style, redaction) -> None:
    text = text.encode("utf-8", "replace").decode()
    assert prepare(text, style=style, redaction=redaction)[0] == text or is_found(text, style, redaction)


def is_found(text: str, style, redaction) -> bool:
    pattern = changing_pattern(style, redaction)
    return pc.match_substring_regex(pa.array([text]), pattern)[0].as_py()


@given(TEXTS)
def test_without_redaction_a_text_is_only_normalised(text: str) -> None:
    assert prepare(text, style="plain", redaction="none") == (normalise(text, "plain"), {})


def test_items_are_found_behind_markup_and_typographic_characters() -> None:
    text = "Write to <b>bob&#64;x.com</b>\u200b or call 555\u2013123\u20134567"
    assert prepare(text, style="plain", redaction="personal")[0] == "Write to [email] or call [phone]"
    assert prepare(text, style="article", redaction="personal")[0] == "write to email or call phone"


@pytest.mark.parametrize(
    "unit",
    ["1", "1.", "@", "a@", "a.a@", "1 ", "+1", "(1", "1:", "a1:: ", "://", "?a=", "0170 1234567 ", "10.0.0.1 ",
     "DE12 ", "?token=", "(0)1", "0123", "call 12 ", "4111 ", "a-", "000::G@0.AA"],
)  # fmt: skip
def test_the_time_grows_no_faster_than_the_text(unit: str) -> None:
    times = []
    for size in (5_000, 80_000):
        text = unit * (size // len(unit))
        started_s = time.process_time()
        redact(text)
        times.append(time.process_time() - started_s)
    assert times[1] < 16 * 5 * max(times[0], 0.002), "quadratic time would take 256 times as long"


def test_an_address_of_ipv6_is_found_behind_a_colon() -> None:
    assert redact("Host:2001:db8::1, IP: fe80::1")[0] == "Host:[ip], IP: [ip]"
