import json
import shutil
from pathlib import Path

import pytest
import torch
from chat_models import LONG, model_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from chat.session import Session
from cli import app
from models.errors import InputError
from models.generation.config import GenerationConfig
from models.generation.generation_config import to_transformers
from models.text import tokenizer
from models.text.normalisation import display
from models.text.tokenizer import END, PAD, START, UNK


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture(scope="module")
def article_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "article"
    return model_folder(folder, family="encoder-decoder", style="article", unit="pair", words=True)


CHANCE = GenerationConfig(temperature=1.0, top_p=1.0, max_tokens=12, seed=4)


@pytest.fixture
def session(folder: Path) -> Session:
    return Session(folder, CHANCE)


def said(session: Session, text: str) -> str:
    return "".join(session.say(text))


def test_the_pieces_of_a_reply_are_the_reply_that_the_history_keeps(session: Session) -> None:
    reply = said(session, "  Hello there. ")
    assert session.messages() == [
        {"role": "user", "content": "Hello there."},
        {"role": "assistant", "content": reply},
    ]


def test_the_model_reads_the_turns_before(session: Session, folder: Path) -> None:
    said(session, "hello there .")
    learnt = tokenizer.load(folder)
    context = session._context(session.turns)
    assert context[0] == START
    assert context.count(END) == 2
    assert learnt.decode(context).startswith("hello there .")


def test_a_context_that_is_too_long_is_cut_on_the_left(session: Session) -> None:
    for text in ("how are you ? " * 20, "a " * 500, "thank you ."):
        assert said(session, text)
    context = session._context(session.turns)
    assert len(context) <= LONG // 4
    assert context[-1] == END


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\u200b", "\x00"])
def test_empty_input_is_answered_with_what_to_do(session: Session, text: str) -> None:
    with pytest.raises(InputError, match="say something"):
        session.say(text)
    assert session.turns == []


@pytest.mark.parametrize(
    "text", ["xyzzy", "日本語", "🙂🙃", "\udcff", "\u2019\u2014\u2026", "<unk> <pad> zzz"]
)
def test_unknown_words_do_not_crash(folder: Path, article_folder: Path, text: str) -> None:
    assert said(Session(folder, CHANCE), text)
    assert said(Session(article_folder, CHANCE), text + " hello")


def test_a_text_that_the_normalisation_leaves_nothing_of_is_refused(article_folder: Path) -> None:
    with pytest.raises(InputError, match="a to z"):
        Session(article_folder, CHANCE).say("日本語")


def test_a_text_meets_the_model_in_its_own_normalisation(article_folder: Path) -> None:
    session = Session(article_folder, CHANCE)
    said(session, "WE'LL see!  <b>Hello</b>")
    assert session.turns[0].text == "we ll see ! hello"
    assert session.turns[0].content == "WE'LL see!  <b>Hello</b>"


def test_a_model_reads_a_text_redacted_only_if_its_training_text_was(folder: Path, tmp_path: Path) -> None:
    redacting = tmp_path / "model"
    shutil.copytree(folder, redacting)
    info = json.loads((redacting / "repartee.json").read_text())
    (redacting / "repartee.json").write_text(json.dumps({**info, "redaction": "personal"}))
    text = "hello there, a@b.de ."
    for path, wanted in ((folder, text), (redacting, "hello there, [email] .")):
        session = Session(path, CHANCE)
        said(session, text)
        assert (session.turns[0].text, session.turns[0].content) == (wanted, text)
        session.restore([{"role": "user", "content": text}, {"role": "assistant", "content": text}])
        assert [turn.text for turn in session.turns] == [wanted, wanted]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1).map(lambda text: f"a {text} <end> <start><pad>"))
def test_what_a_person_types_never_becomes_a_control_token(folder: Path, text: str) -> None:
    session = _sessions.setdefault(folder, Session(folder, CHANCE))
    context = session._context([session._user_turn(text)])
    assert context[-1] == END
    assert not {PAD, START, END, UNK} & set(context[1:-1])


_sessions: dict[Path, Session] = {}


def test_a_pair_model_reads_the_last_turn_alone(article_folder: Path) -> None:
    session = Session(article_folder, CHANCE)
    said(session, "hello there")
    context = session._context([*session.turns, session._user_turn("how are you ?")])
    assert tokenizer.load(article_folder).decode(context) == "how are you ?"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=st.lists(st.integers(4, 299), min_size=1, max_size=12))
def test_pieces_never_hold_half_a_character_and_join_to_the_whole(folder: Path, ids: list[int]) -> None:
    session = _sessions.setdefault(folder, Session(folder, CHANCE))
    assert "".join(pieces_of(session, ids)) == session._shown(session._tokenizer.decode(ids))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_pieces_of_an_article_reply_join_to_what_a_person_reads(
    article_folder: Path, data: st.DataObject
) -> None:
    session = _sessions.setdefault(article_folder, Session(article_folder, CHANCE))
    learnt = tokenizer.load(article_folder)
    ids = data.draw(st.lists(st.integers(4, learnt.get_vocab_size() - 1), min_size=1, max_size=12))
    assert "".join(pieces_of(session, ids)) == display(learnt.decode(ids), "article")


def pieces_of(session: Session, ids: list[int]) -> list[str]:
    class Scripted:
        def stream(self, *_: object) -> object:
            return iter(ids)

    real, session._generator = session._generator, Scripted()  # type: ignore[assignment]
    try:
        return list(session._pieces([START]))
    finally:
        session._generator = real


def test_a_character_of_four_bytes_comes_in_one_piece(folder: Path) -> None:
    learnt = tokenizer.load(folder)
    ids = learnt.encode("a🙂b").ids
    assert len(ids) == 6
    assert pieces_of(Session(folder, CHANCE), ids) == ["a", "🙂", "b"]


def test_a_reply_is_one_line_without_control_characters(folder: Path) -> None:
    session = Session(folder, CHANCE)
    ids = tokenizer.load(folder).encode("a\x1b[2J\nb\x7f").ids
    assert "".join(pieces_of(session, ids)) == "a [2J b "


def test_a_word_that_is_still_growing_waits_for_its_end(folder: Path) -> None:
    session = Session(folder, CHANCE)
    session._style = "article"
    learnt = tokenizer.load(folder)
    ids = [i for part in ("we", " l", "l", " see") for i in learnt.encode(part).ids]
    assert "".join(pieces_of(session, ids)) == "we'll see"


def test_an_article_reply_is_shown_with_its_words_put_together(article_folder: Path) -> None:
    learnt: Tokenizer = tokenizer.load(article_folder)
    pieces = pieces_of(Session(article_folder, CHANCE), learnt.encode("we ll see .").ids)
    assert "".join(pieces) == "we'll see."
    assert len(pieces) > 1


@pytest.mark.parametrize(
    ("said", "stop", "shown"),
    [
        ("so a | b", ("|",), "so a "),
        ("so a END b", ("END",), "so a "),  # the stop text spans several tokens
        ("so a END b", ("nothing", "D b", "END"), "so a "),
        ("so a EN", ("END",), "so a EN"),  # only the start of a stop text is shown
        ("so a EEND b", ("END",), "so a E"),
        ("so a \U0001f642 b", ("\U0001f642",), "so a "),
        ("so a b", (), "so a b"),
    ],
)
def test_a_reply_ends_before_a_stop_text_of_which_nothing_is_ever_shown(
    folder: Path, said: str, stop: tuple[str, ...], shown: str
) -> None:
    session = Session(folder, CHANCE.model_copy(update={"stop": stop}))
    pieces = pieces_of(session, tokenizer.load(folder).encode(said).ids)
    assert "".join(pieces) == shown


def test_a_stop_text_ends_the_making_of_the_reply_too(folder: Path) -> None:
    whole = Session(folder, CHANCE).reply_once("hello")
    stop = whole.text[len(whole.text) // 2 :][:2]
    session = Session(folder, CHANCE)
    session.set("stop", stop)
    answer = session.reply_once("hello")
    assert answer.text == whole.text[: whole.text.index(stop)]
    assert answer.tokens < whole.tokens
    assert answer.finished
    assert session.messages()[-1]["content"] == answer.text
    session.new()
    assert "".join(session.say("hello")) == answer.text
    session.set("stop", "none")
    session.new()
    assert session.reply_once("hello") == whole


def test_a_reply_that_is_a_stop_text_from_the_start_is_no_turn(folder: Path) -> None:
    session = Session(folder, CHANCE)
    session.set("stop", session.reply_once("hello").text[:1])
    session.new()
    assert session.reply_once("hello").text == ""
    assert session.turns == []


def test_a_seed_gives_the_same_conversation_again(folder: Path) -> None:
    first, second = Session(folder, CHANCE), Session(folder, CHANCE)
    assert [said(first, "hello"), said(first, "hello")] == [
        said(second, "hello"),
        said(second, "hello"),
    ]
    conversation = first.messages()
    first.new()
    assert first.turns == []
    assert [said(first, "hello"), said(first, "hello")] == [m["content"] for m in conversation[1::2]]


def test_reply_once_is_what_say_streams(folder: Path) -> None:
    answer = Session(folder, CHANCE).reply_once("hello")
    session = Session(folder, CHANCE)
    assert answer.text == said(session, "hello")
    assert 0 < answer.tokens <= 12
    assert answer.finished == (answer.tokens < 12)


def test_retry_answers_the_last_turn_anew(session: Session) -> None:
    old = said(session, "hello")
    new = "".join(session.retry())
    assert new != old
    assert session.messages() == [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": new},
    ]


def test_retry_and_undo_of_nothing_say_so(session: Session) -> None:
    for act in (session.retry, session.undo):
        with pytest.raises(InputError, match=r"say something first|nothing to undo"):
            act()


def test_undo_forgets_the_last_exchange(session: Session) -> None:
    said(session, "hello")
    before = session.messages()
    said(session, "how are you ?")
    assert session.undo() == "how are you ?"
    assert session.messages() == before


def test_a_reply_that_is_forgotten_is_in_no_statistics(session: Session) -> None:
    for forget in (session.undo, session.new, lambda: session.restore([])):
        said(session, "hello")
        assert session.stats().reply_tokens > 0
        forget()
        assert (session.stats().reply_tokens, session.stats().reply_seconds) == (0, 0.0)


def test_a_reply_that_is_stopped_keeps_what_was_said(folder: Path) -> None:
    session = Session(folder, CHANCE)
    pieces = session.say("hello")
    shown = next(pieces) + next(pieces)
    pieces.close()
    assert session.messages()[-1] == {"role": "assistant", "content": shown}


def test_a_retry_that_is_stopped_at_once_keeps_the_old_reply(session: Session) -> None:
    said(session, "hello")
    before = session.messages()
    session.retry().close()
    assert session.messages() == before


def test_an_error_in_a_reply_leaves_the_history_as_it_was(session: Session) -> None:
    said(session, "hello")
    before = session.messages()
    with torch.no_grad():
        session._generator.model.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError):
        said(session, "again")
    assert session.messages() == before


def test_settings_change_and_a_seed_begins_anew(session: Session) -> None:
    session.set("temperature", "0")
    session.set("top_p", 0.5)
    session.set("max_tokens", "7")
    assert session.generation == GenerationConfig(temperature=0, top_p=0.5, max_tokens=7, seed=4)
    for key, value in (("top_k", "40"), ("repetition_penalty", "1.2"), ("no_repeat_ngram", "3")):
        session.set(key, value)
    assert (session.generation.top_k, session.generation.no_repeat_ngram) == (40, 3)
    assert session.generation.repetition_penalty == 1.2
    session.set("temperature", 1.5)
    session.set("seed", "99999999999999999999")
    first = said(session, "hello")
    session.new()
    assert said(session, "hello") == first
    session.set("seed", "none")
    assert session.generation.seed is None
    assert said(session, "hello")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", "-1"),
        ("temperature", "hot"),
        ("temperature", "nan"),
        ("top_p", "1.1"),
        ("max_tokens", "0"),
        ("max_tokens", "1.5"),
        ("top_k", "-1"),
        ("repetition_penalty", "0"),
        ("repetition_penalty", "inf"),
        ("no_repeat_ngram", "-1"),
    ],
)
def test_a_bad_value_is_refused_and_changes_nothing(session: Session, key: str, value: str) -> None:
    with pytest.raises(InputError, match=key) as refused:
        session.set(key, value)
    assert "\n" not in str(refused.value)
    assert session.generation == CHANCE


def test_an_unknown_setting_is_met_with_the_one_that_was_meant(session: Session) -> None:
    with pytest.raises(InputError, match="did you mean 'temperature'"):
        session.set("temprature", "1")
    with pytest.raises(InputError, match="the settings are temperature, top_p, max_tokens, seed"):
        session.set("xyz", "1")


def test_a_conversation_is_saved_as_one_line_of_chat_jsonl(session: Session, tmp_path: Path) -> None:
    said(session, "hello 🙂")
    path = tmp_path / "talk.jsonl"
    session.save(path)
    (line,) = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {"messages": session.messages()}
    said(session, "again")
    session.save(path)  # this session wrote the file, so it may overwrite it
    assert json.loads(path.read_text(encoding="utf-8")) == {"messages": session.messages()}
    assert [entry.name for entry in tmp_path.iterdir()] == ["talk.jsonl"]


def test_save_never_writes_over_another_file_and_says_what_is_wrong(session: Session, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to save"):
        session.save(tmp_path / "talk.jsonl")
    said(session, "hello")
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    (tmp_path / "precious-2.txt").write_text("mine, too")
    with pytest.raises(InputError, match=r"exists already; .*: /save .*/precious-3\.txt$"):
        session.save(precious)
    session.save(tmp_path / "precious-3.txt")
    with pytest.raises(InputError, match="cannot write"):
        session.save(tmp_path / "no" / "such" / "folder.jsonl")
    assert precious.read_text() == "mine"


def test_a_folder_that_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no repartee\.json"):
        Session(tmp_path, CHANCE)
    (tmp_path / "repartee.json").write_text("{")
    with pytest.raises(InputError, match="damaged: it is not JSON"):
        Session(tmp_path, CHANCE)
    (tmp_path / "repartee.json").write_text('{"normalisation": "plain"}')
    with pytest.raises(InputError, match="damaged: a setting is missing or wrong"):
        Session(tmp_path, CHANCE)


def test_the_chat_answers_with_the_values_of_the_models_folder_unless_options_change_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    path = model / "generation_config.json"
    chosen = to_transformers(GenerationConfig(temperature=2.0, top_p=1.0, max_tokens=5, seed=1))
    path.write_text(json.dumps(json.loads(path.read_text()) | chosen))

    def answer(**options: object) -> dict[str, object]:
        app.chat(str(model), once="hello", as_json=True, **options)  # type: ignore[arg-type]
        return dict(json.loads(capsys.readouterr().out))

    first = answer()
    assert first["tokens"] == 5
    assert answer() == first, "the seed reaches the chat"
    assert answer(seed=2) != first
    assert answer(temperature=0.0) == answer(temperature=0.0, seed=2) != first


def test_a_saved_conversation_is_loaded_and_goes_on_and_may_be_saved_again(
    session: Session, folder: Path, tmp_path: Path
) -> None:
    said(session, "Hello there.")
    session.save(tmp_path / "talk.jsonl")
    other = Session(folder, CHANCE)
    other.load(tmp_path / "talk.jsonl")
    assert other.messages() == session.messages()
    assert other._context(other.turns) == session._context(session.turns)
    said(other, "And you?")
    other.save(tmp_path / "talk.jsonl")
    assert len(json.loads((tmp_path / "talk.jsonl").read_text())["messages"]) == 4


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "the file has 0 lines"),
        ("{}\n{}\n", "the file has 2 lines"),
        ("hello", "the line is not"),
        ('{"messages": 3}', "the line is not"),
        ('{"messages": []}', "do not alternate"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "do not alternate"),
        (
            '{"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}',
            "do not alternate",
        ),
        (b"\xff\xfe", "the file is not UTF-8"),
        ("[" * 100_000, "the line is not"),
    ],
)
def test_a_file_that_holds_no_conversation_is_one_line_and_changes_nothing(
    session: Session, tmp_path: Path, content: str | bytes, problem: str
) -> None:
    said(session, "Hello there.")
    before = session.messages()
    (tmp_path / "talk.jsonl").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match="contains no saved conversation") as caught:
        session.load(tmp_path / "talk.jsonl")
    assert problem in str(caught.value)
    assert session.messages() == before
    with pytest.raises(InputError, match="cannot read"):
        session.load(tmp_path / "missing.jsonl")


def test_a_message_that_the_model_cannot_read_leaves_the_conversation_as_it_was(article_folder: Path) -> None:
    session = Session(article_folder, CHANCE)
    session.restore([{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}])
    with pytest.raises(InputError, match="letters a to z"):
        session.restore([{"role": "user", "content": "\u043f\u0440\u0438"}])
    assert len(session.turns) == 2


def test_the_stats_count_the_context_and_the_tokens_of_the_last_reply(session: Session) -> None:
    assert session.stats().reply_tokens == 0 and session.stats().context_tokens == 0
    said(session, "Hello there.")
    stats = session.stats()
    assert stats.turns == 2 and stats.context_tokens > 4
    assert 1 <= stats.reply_tokens <= CHANCE.max_tokens
    assert stats.reply_seconds > 0


@pytest.fixture
def listener(folder: Path, tmp_path: Path) -> Session:
    """A session with a model that was trained with system texts."""
    copy = tmp_path / "listener"
    shutil.copytree(folder, copy)
    info = json.loads((copy / "repartee.json").read_text())
    (copy / "repartee.json").write_text(json.dumps({**info, "has_system": True}))
    return Session(copy, CHANCE)


def test_the_system_text_stands_before_all_turns_until_it_is_removed(listener: Session) -> None:
    listener.set_system("  thank you . ")
    said(listener, "hello there .")
    context = listener._context(listener.turns)
    shown = listener._tokenizer.decode(context)
    assert shown.startswith("thank you .") and context.count(END) == 3
    listener.new()
    assert listener.system == "thank you ."
    listener.set_system("")
    said(listener, "hello there .")
    assert listener._tokenizer.decode(listener._context(listener.turns)).startswith("hello there .")


def test_a_long_conversation_keeps_its_system_text(listener: Session) -> None:
    listener.set_system("thank you .")
    for _ in range(8):
        said(listener, "how are you ? how are you ?")
    context = listener._context(listener.turns)
    assert listener._tokenizer.decode(context).startswith("thank you .")
    assert len(context) <= LONG // 4


def test_a_saved_conversation_has_its_system_text(listener: Session, tmp_path: Path) -> None:
    listener.set_system("thank you .")
    said(listener, "hello there .")
    listener.save(tmp_path / "talk.jsonl")
    saved = listener.messages()
    assert saved[0] == {"role": "system", "content": "thank you ."}
    listener.set_system("")
    listener.load(tmp_path / "talk.jsonl")
    assert listener.messages() == saved


def test_a_system_text_that_the_model_cannot_read_is_refused_and_changes_nothing(
    session: Session, listener: Session
) -> None:
    with pytest.raises(InputError, match=r"trained without system texts, .* /system none"):
        session.set_system("thank you .")
    listener.set_system("thank you .")
    said(listener, "hello there .")
    with pytest.raises(InputError, match="longer than 16 tokens"):
        listener.set_system("how are you ? " * 20)
    assert listener.system == "thank you ."
    with pytest.raises(InputError, match="trained without system texts"):
        session.restore(listener.messages())
    assert session.turns == []
