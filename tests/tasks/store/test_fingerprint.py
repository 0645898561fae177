"""The fingerprint of code: what changes it, and what does not."""

import ast
import importlib.util
import inspect
import os
import re
import shutil
import textwrap
import time
from pathlib import Path

import pytest

from models.config import Config
from models.files import PROJECT as ROOT
from models.text.config import MarkupConfig
from tasks import clean, download, evaluate, export, gate, parse, start, train, vocabulary
from tasks.store.fingerprint import code_fingerprint, reached

PROJECT = {
    "tasks/__init__.py": "",
    "tasks/clean.py": '''
        """Clean."""
        import re
        from functools import partial

        from prefect import task

        from models import schemas
        from models.text import normalise

        LIMIT = 60
        UNRELATED = 1


        def clean(rows, limit=LIMIT):
            """Keep what is short."""
            return [_tidy(row) for row in rows if len(row) < limit], schemas.TURNS


        def _tidy(row):
            def inner(text):
                return normalise(text)
            return inner(row)


        def neighbour(rows):
            return rows


        @task(name="clean")
        def shell(rows):
            return clean(rows)
    ''',
    "models/__init__.py": "",
    "models/text/normalisation.py": """
        import re

        BLANKS = re.compile(r"\\s+")  # one or more
        MARKS = {"quote": "'", "dash": "-"}
        OTHER = 3


        def normalise(text):
            return BLANKS.sub(" ", text).translate(MARKS)


        def display(text):
            return text
    """,
    "models/data/schemas.py": """
        TURNS = ("id", "text")
        EXAMPLES = ("ids",)
    """,
}


def handle(name):
    """A stand-in for `tasks.clean.clean`: nothing of a fake project is ever imported."""

    def function(): ...

    function.__module__, _, function.__qualname__ = name.rpartition(".")
    return function


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")


def edit(root, name, old, new):
    path = root / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def of(root, name="tasks.clean.clean", modules=()):
    return code_fingerprint(handle(name), modules=modules, root=root)


def names(root, name="tasks.clean.clean", modules=()):
    return reached(handle(name), modules=modules, root=root)


def single(root, text, name="job"):
    """The symbols that a function of a one-file project reaches, without itself."""
    write(root, {"one.py": text})
    return [symbol.removeprefix("one.") for symbol in names(root, f"one.{name}")]


@pytest.fixture
def root(tmp_path):
    write(tmp_path, PROJECT)
    return tmp_path


def test_what_is_reached_is_told_by_name(root):
    assert names(root) == [
        "models.data.schemas.TURNS",
        "models.text.normalisation.BLANKS",
        "models.text.normalisation.MARKS",
        "models.text.normalisation.normalise",
        "tasks.clean.LIMIT",
        "tasks.clean._tidy",
        "tasks.clean.clean",
    ]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("tasks/clean.py", "len(row) < limit", "len(row) <= limit"),
        ("tasks/clean.py", "LIMIT = 60", "LIMIT = 61"),
        ("tasks/clean.py", "return inner(row)", "return inner(row[1:])"),
        ("tasks/clean.py", "return normalise(text)", "return normalise(text[1:])"),
        ("models/text/normalisation.py", 'r"\\s+"', 'r"\\s*"'),
        ("models/text/normalisation.py", '"dash": "-"', '"dash": "--"'),
        ("models/data/schemas.py", '("id", "text")', '("id", "words")'),
        ("tasks/clean.py", "limit=LIMIT", "limit=60"),
        ("models/text/normalisation.py", 'sub(" ", text)', 'sub("", text)'),
        ("models/text/normalisation.py", "import re\n", "import regex as re\n"),
    ],
)
def test_a_change_of_what_is_reached_changes_it(root, file, old, new):
    before = of(root)
    edit(root, file, old, new)
    assert of(root) != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("models/text/normalisation.py", "  # one or more", "  # at least one"),
        ("tasks/clean.py", '"""Keep what is short."""', '"""Keep the short."""\n\n    # why'),
        ("tasks/clean.py", '"""Clean."""', ""),
        ("tasks/clean.py", "LIMIT = 60", "LIMIT = 60\n'''Longer is a monologue.'''\n\n\n"),
        ("tasks/clean.py", "LIMIT = 60", "LIMIT: int = 6_0"),
        ("tasks/clean.py", "def _tidy(row):", "def _tidy(row: str) -> 'list[str]':"),
        ("tasks/clean.py", "[_tidy(row) for", "[\n        _tidy(\n row) for"),
        ("models/text/normalisation.py", '"\'"', "'\\x27'"),
        ("tasks/clean.py", "return rows", "return rows[1:]"),
        ("tasks/clean.py", "UNRELATED = 1", "UNRELATED = 2"),
        ("tasks/clean.py", '@task(name="clean")', "@task"),
        ("tasks/clean.py", "from functools import partial", "import json"),
        ("models/text/normalisation.py", "OTHER = 3", "OTHER = 4"),
        ("models/text/normalisation.py", "    return text\n", "    return text.lower()\n"),
        ("models/data/schemas.py", '("ids",)', '("ids", "split")'),
    ],
)
def test_a_change_of_anything_else_does_not(root, file, old, new):
    before = of(root)
    edit(root, file, old, new)
    assert of(root) == before


def test_the_order_of_the_definitions_does_not_count(root):
    before = of(root)
    text = (root / "models/data/schemas.py").read_text().strip().splitlines()
    (root / "models/data/schemas.py").write_text("\n".join(reversed(text)))
    assert of(root) == before


def test_two_projects_of_the_same_code_agree(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("elsewhere")
    write(other, PROJECT)
    assert of(root) == of(other)


def test_an_edit_is_seen_though_size_and_time_stay(root):
    before, path = of(root), root / "models/data/schemas.py"
    known = path.stat()
    edit(root, "models/data/schemas.py", '"id"', '"di"')
    os.utime(path, ns=(known.st_atime_ns, known.st_mtime_ns))
    assert of(root) != before


@pytest.mark.parametrize(
    ("imports", "use"),
    [
        ("from models.text.normalisation import normalise", "normalise(x)"),
        ("from models.text.normalisation import normalise as tidy", "tidy(x)"),
        ("from models import text", "text.normalise(x)"),
        ("from models import text as t", "t.normalise(x)"),
        ("import models.text.normalisation", "models.text.normalisation.normalise(x)"),
        ("import models.text.normalisation as t", "t.normalise(x)"),
        ("import models", "models.text.normalisation.normalise(x)"),
        ("from .other import again", "again(x)"),
        ("from . import other", "other.again(x)"),
        ("try:\n    from fast import normalise\nexcept ImportError:\n"
         "    from models.text.normalisation import normalise", "normalise(x)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["top", "function"])
def test_every_form_of_import_leads_to_the_symbol_and_to_no_other(root, imports, use, where):
    inside = imports if where == "function" else "pass"
    body = f"def job(x):\n{textwrap.indent(inside, '    ')}\n    return {use}\n"
    write(
        root,
        {
            "tasks/job.py": body if where == "function" else f"{imports}\n\n{body}",
            "tasks/other.py": "from models.text.normalisation import normalise as again\n",
        },
    )
    told = names(root, "tasks.job.job")
    expected = {
        "models.text.normalisation.BLANKS",
        "models.text.normalisation.MARKS",
        "models.text.normalisation.normalise",
        "tasks.job.job",
    }
    assert set(told) - {"tasks.job.normalise"} == expected
    before = of(root, "tasks.job.job")
    edit(root, "models/text/normalisation.py", 'sub(" ", text)', 'sub("", text)')
    assert of(root, "tasks.job.job") != before


def test_a_relative_import_of_a_package_above_is_followed(root):
    write(
        root,
        {
            "tasks/deep/__init__.py": "from ..other import LIMIT\nfrom .job import job\n",
            "tasks/deep/job.py": "from . import LIMIT\n\ndef job():\n    return LIMIT\n",
            "tasks/other.py": "LIMIT = 1\nOTHER = 2\n",
        },
    )
    assert names(root, "tasks.deep.job.job") == ["tasks.deep.job.job", "tasks.other.LIMIT"]


def test_a_re_export_of_a_package_is_followed(root):
    write(
        root,
        {
            "models/__init__.py": "from models.text.normalisation import normalise as tidy\n",
            "tasks/job.py": "from models import tidy\n\ndef job(x):\n    return tidy(x)\n",
        },
    )
    assert "models.text.normalisation.BLANKS" in names(root, "tasks.job.job")
    before = of(root, "tasks.job.job")
    edit(root, "models/__init__.py", "normalise as tidy", "display as tidy")
    assert of(root, "tasks.job.job") != before


def test_two_imports_that_swap_their_names_change_it(root):
    text = "from models.text.normalisation import {} as a, {} as b\n\ndef job(x):\n    return a(b(x))\n"
    write(root, {"tasks/job.py": text.format("normalise", "display")})
    before = of(root, "tasks.job.job")
    write(root, {"tasks/job.py": text.format("display", "normalise")})
    assert of(root, "tasks.job.job") != before


@pytest.mark.parametrize(
    "text",
    [
        "from models import text\n\ndef job(n):\n    return getattr(text, n)\n",
        "import models.text.normalisation\n\ndef job(n):\n    return vars(models.text.normalisation)[n]\n",
        "from models.text.normalisation import *\n\ndef job(x):\n    return normalise(x)\n",
        "from models import text\n\ndef job():\n    return text.made_at_run_time\n",
    ],
)
def test_a_module_that_is_used_itself_or_with_a_star_counts_whole(root, text):
    write(root, {"tasks/job.py": text})
    assert {"models.text.normalisation.OTHER", "models.text.normalisation.display"} <= set(
        names(root, "tasks.job.job")
    )


def test_where_a_module_lies_is_not_what_it_holds(root):
    write(
        root,
        {"tasks/job.py": "from models import text\n\ndef job():\n    return text.__file__\n"},
    )
    assert names(root, "tasks.job.job") == ["tasks.job.job"]


def test_a_name_that_python_knows_reaches_nothing(tmp_path):
    assert single(tmp_path, "def job(x):\n    return len(sorted(x))\n") == ["job"]


def test_functions_that_call_each_other_and_modules_that_import_each_other_end(tmp_path):
    write(
        tmp_path,
        {
            "a.py": "import b\nfrom b import ghost\n\ndef ping():\n    return b.pong(), ghost\n",
            "b.py": "import a\nfrom a import ghost\n\ndef pong():\n    return a.ping()\n",
        },
    )
    assert names(tmp_path, "a.ping") == ["a.ping", "b.pong"]


def test_a_class_counts_whole_with_its_bases_fields_and_methods(tmp_path):
    text = """
        from pydantic import Field

        HIGH = 9

        def check(value): return value

        class Kind: ...

        class Base:
            def inherited(self): return check(1)

        class Config(Base):
            kind: Kind
            '''Its help.'''
            size: int = Field(default=3, le=HIGH)

            def unused(self, other: "Other") -> "Other":
                here: Kind = other
                return here

        class Other: ...

        def job(): return Config()
    """
    assert single(tmp_path, text) == ["Base", "Config", "HIGH", "Kind", "Other", "check", "job"]
    before = of(tmp_path, "one.job")
    edit(tmp_path, "one.py", "Its help", "Another help")
    edit(tmp_path, "one.py", "here: Kind", "here: Base")
    assert of(tmp_path, "one.job") == before
    edit(tmp_path, "one.py", "size: int", "size: float")
    assert of(tmp_path, "one.job") != before


@pytest.mark.parametrize(
    "job",
    [
        "def job(one: Markup): return one.length()",
        "def job(*, one: Markup | None = None): return one.length()",
        "def job(one: 'list[Markup]'): return one[0].length()",
        "def job(one):\n    two: Markup = one\n    return two.length()",
        "def job(one): return find(one).length()\n\ndef find(one) -> 'Markup': return one",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from two import Markup as M\ndef job(one: M): ...",
        "import two\ndef job(one: two.Markup): return one.length()",
    ],
)
def test_a_method_of_what_an_annotation_names_counts(tmp_path, job):
    two = "class Markup:\n    def length(self): return half(self)\n\ndef half(x): return x // 4\n\ndef other(): ...\n"
    write(tmp_path, {"two.py": two})
    assert "two.half" in single(tmp_path, f"from two import Markup\n{job}\n")
    assert "two.other" not in names(tmp_path, "one.job")
    before = of(tmp_path, "one.job")
    edit(tmp_path, "two.py", "// 4", "// 2")
    assert of(tmp_path, "one.job") != before


def test_a_text_of_a_literal_is_no_class(tmp_path):
    text = "from typing import Literal\n\ndef hub(): ...\n\ndef job(kind: Literal['hub']): ...\n"
    assert single(tmp_path, text) == ["job"]


def test_the_text_of_an_annotation_of_a_function_or_a_variable_counts_for_nothing(tmp_path):
    text = """
        def job(one: int, *, two: int | None = None) -> int:
            three: int = one
            four: int
            return three
    """
    assert single(tmp_path, text) == ["job"]
    before = of(tmp_path, "one.job")
    edit(tmp_path, "one.py", ": int = one", " = one")
    edit(tmp_path, "one.py", "    four: int\n", "")
    edit(tmp_path, "one.py", "one: int, *", "one, *")
    assert of(tmp_path, "one.job") == before


def test_decorators_and_defaults_count(tmp_path):
    text = """
        def trace(function): return function
        TIMES = 2
        LAST = 3
        @trace
        def job(times=TIMES, *, last=LAST, pick=lambda row: KEY(row)): return times
        def KEY(row): return row
    """
    assert single(tmp_path, text) == ["KEY", "LAST", "TIMES", "job", "trace"]
    before = of(tmp_path, "one.job")
    edit(tmp_path, "one.py", "@trace\n", "")
    assert of(tmp_path, "one.job") != before


@pytest.mark.parametrize(
    "body",
    [
        "def job(parse): return parse.rows",
        "def job():\n    parse = 1\n    return parse",
        "def job(x):\n    def inner(): return parse\n    parse = x\n    return inner",
        "def job(x): return [parse for parse in x]",
        "def job(x): return {parse: 1 for parse, _ in x}",
        "def job(x): return lambda parse: parse",
        "def job(x):\n    with x as parse: return parse",
        "def job(x):\n    for parse in x: print(parse)",
        "def job(x):\n    try: x()\n    except OSError as parse: return parse",
        "def job(x):\n    if (parse := x): return parse",
        "def job(x):\n    any((parse := y) for y in x)\n    return parse",
        "def job(x):\n    match x:\n        case [parse, *_]: return parse",
        "def job(x):\n    import json as parse\n    return parse.dumps(x)",
        "def job(x):\n    def parse(): return 1\n    return parse()",
        "def job(x): return x.parse, dict(parse=1), 'parse'",
    ],
)
def test_a_variable_is_not_the_symbol_of_the_same_name(tmp_path, body):
    assert single(tmp_path, f"def parse(): return 1\n\n{body}\n") == ["job"]


@pytest.mark.parametrize(
    "body",
    [
        "def job(x): return [parse for y in x]",
        "def job(x):\n    a = [parse for parse in x]\n    return parse(a)",
        "def job(x):\n    def inner(parse): return parse\n    return inner(parse)",
        "def job(x):\n    global parse\n    parse = x",
        "class Config:\n    parse = 1\n\ndef job(): return Config, parse",
        "class Config:\n    parse: int = parse()\n\ndef job(): return Config",
        "def job(x=f'{parse()}'): return x",
    ],
)
def test_a_symbol_is_seen_beside_a_variable_of_its_name(tmp_path, body):
    assert "parse" in single(tmp_path, f"def parse(): return 1\n\n{body}\n")


def test_definitions_under_a_condition_count_with_it(tmp_path):
    text = """
        import sys
        try:
            import fast
            HAVE = True
        except ImportError:
            HAVE = False
        if sys.platform == "linux":
            def wait(): return 1
        else:
            def wait(): return 2
        def job(): return wait(), HAVE
        def other(): return 1
    """
    assert single(tmp_path, text) == ["HAVE", "job", "wait"]
    for old, new in [("HAVE = False", "HAVE = None"), ("return 2", "return 3"), ("linux", "win32")]:
        before = of(tmp_path, "one.job")
        edit(tmp_path, "one.py", old, new)
        assert of(tmp_path, "one.job") != before


def test_a_name_that_is_assigned_twice_counts_with_both(tmp_path):
    text = "WORDS = ['a']\nWORDS += ['b']\n\ndef job(): return WORDS\n"
    assert single(tmp_path, text) == ["WORDS", "job"]
    before = of(tmp_path, "one.job")
    edit(tmp_path, "one.py", "['b']", "['c']")
    assert of(tmp_path, "one.job") != before


@pytest.mark.parametrize(
    "statement",
    [
        "TABLE.update(a=1)",
        "TABLE['a'] = 1",
        "for key in 'abc': TABLE[key] = 1",
        "if TABLE is not None: TABLE.update(a=1)",
        "del TABLE['a']",
    ],
)
def test_what_the_import_of_a_module_runs_counts(root, statement):
    write(
        root,
        {
            "tasks/job.py": "from models import other\n\ndef job(): return 1\n",
            "models/other.py": f"TABLE = {{}}\n{statement}\n",
        },
    )
    told = names(root, "tasks.job.job")
    assert {"models.other", "models.other.TABLE", "tasks.job.job"} <= set(told)
    before = of(root, "tasks.job.job")
    edit(root, "models/other.py", statement, "")
    assert of(root, "tasks.job.job") != before


def test_what_runs_only_as_a_script_or_for_the_type_checker_does_not_count(root):
    text = """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from models.text import normalise
            normalise.loud = True
        def job(x): return normalise(x)
        if __name__ == "__main__":
            print(job(1))
    """
    write(root, {"tasks/job.py": text})
    assert names(root, "tasks.job.job") == ["tasks.job.job"]


def test_a_module_that_is_started_as_a_process_counts_from_its_main(root):
    text = """
        from models import text
        def main(): return train()
        def train(): return text.display("a")
        def unused(): return 1
    """
    write(root, {"models/training/loop.py": text})
    assert set(names(root, modules=("models.training.loop",))) - set(names(root)) == {
        "models.text.normalisation.display",
        "models.training.loop.main",
        "models.training.loop.train",
    }
    assert of(root, modules=("models.training.loop",)) != of(root)


@pytest.mark.parametrize("name", ["tasks.clean.gone", "nowhere.job"])
def test_a_function_that_cannot_be_found_is_an_error_and_no_empty_fingerprint(root, name):
    with pytest.raises(ValueError, match="is not at the top level"):
        of(root, name)


def test_methods_and_inner_functions_count_as_what_they_stand_in(tmp_path):
    text = """
        class Trainer:
            def train(self): return step()
        def step(): return 1
        def outer():
            def inner(): return step()
            return inner
    """
    write(tmp_path, {"one.py": text})
    assert reached(handle("one.Trainer"), root=tmp_path) == ["one.Trainer", "one.step"]
    method = handle("one.train")
    method.__qualname__ = "Trainer.train"
    assert reached(method, root=tmp_path) == ["one.Trainer", "one.step"]
    method.__qualname__ = "outer.<locals>.inner"
    assert reached(method, root=tmp_path) == ["one.outer", "one.step"]


def test_a_function_that_was_loaded_from_its_path_is_found_by_it(root):
    path = root / "models" / "schemas.py"
    edit(root, "models/data/schemas.py", "TURNS =", "def job(): return TURNS\nTURNS =")
    spec = importlib.util.spec_from_file_location("__loaded__", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert reached(module.job, root=root) == ["models.data.schemas.TURNS", "models.data.schemas.job"]


BUILDS = {
    "tasks.download.download_corpus": (),
    "corpus.cleaning.clean.clean_turns": (),
    "models.evaluation.report.evaluate_model": (),
    "models.training.launch.train_model": ("models.training.trainer",),
}


@pytest.mark.parametrize("name", BUILDS)
def test_our_own_code_without_comments_and_layout_has_the_same_fingerprint(name, tmp_path):
    for folder in ("tasks", "corpus", "models"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pyc*"))
    before = of(tmp_path, name, BUILDS[name])
    for path in tmp_path.rglob("*.py"):
        path.write_text(ast.unparse(ast.parse(path.read_text())), encoding="utf-8")
    assert of(tmp_path, name, BUILDS[name]) == before


STAGES = [
    module.STAGE for module in (start, download, parse, clean, vocabulary, export, train, evaluate, gate)
]


def config_classes(kind):
    """A config class and those of its fields."""
    inner = [field.annotation for field in kind.model_fields.values() if isinstance(field.annotation, type)]
    return {kind}.union(*(config_classes(each) for each in inner if issubclass(each, Config)))


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_method_of_each_config_class_that_a_stage_is_given_is_part_of_its_code(stage, tmp_path):
    for folder in ("tasks", "corpus", "models"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pyc*"))
    name = f"{stage.build.__module__}.{stage.build.__qualname__}"
    before = of(tmp_path, name, stage.modules)
    classes = config_classes(inspect.signature(stage.build).parameters["config"].annotation)
    also = (
        {MarkupConfig} if stage.name in ("train", "evaluate", "rescore") else set()
    )  # as the model's files say
    for kind in classes | also:
        file = f"{kind.__module__.replace('.', '/')}.py"
        header = re.search(rf"^class {kind.__name__}\(.*\):\n", (tmp_path / file).read_text(), re.MULTILINE)[
            0
        ]
        added = f"{header}    def added(self): return 1\n\n"
        edit(tmp_path, file, header, added)
        assert of(tmp_path, name, stage.modules) != before, kind
        edit(tmp_path, file, added, header)
    assert of(tmp_path, name, stage.modules) == before


@pytest.mark.parametrize("stage", [export, train, evaluate], ids=lambda module: module.STAGE.name)
def test_another_share_for_the_context_makes_other_examples_and_another_model(stage, tmp_path):
    for folder in ("tasks", "corpus", "models"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pyc*"))
    name = f"{stage.STAGE.build.__module__}.{stage.STAGE.build.__qualname__}"
    before = of(tmp_path, name, stage.STAGE.modules)
    edit(tmp_path, "models/text/config.py", "self.max_tokens // 4", "self.max_tokens // 2")
    assert of(tmp_path, name, stage.STAGE.modules) != before


def test_forty_modules_take_under_a_third_of_a_second(tmp_path):
    body = "\n".join(f"def f{i}(x):\n    return [x * {i} for _ in range(x)]" for i in range(40))
    for i in range(40):
        write(tmp_path, {f"m{i}.py": f"from m{i + 1} import f1 as nxt\n{body}\nf1 = nxt\n"})
    write(tmp_path, {"m40.py": body})

    def seconds():
        started_s = time.process_time()
        of(tmp_path, "m0.f1")
        return time.process_time() - started_s

    assert min(seconds() for _ in range(3)) < 0.3  # the least: another process slows any one of them


def test_the_root_is_this_project():
    assert Path(__file__).is_relative_to(ROOT)
