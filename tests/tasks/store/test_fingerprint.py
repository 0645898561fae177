"""Which changes to the code and its libraries change the fingerprint of the code, and which do not."""

import ast
import importlib.util
import inspect
import os
import re
import shutil
import sys
import textwrap
import time
from pathlib import Path

import pytest

from flows.retrain import CHAIN
from models.config import Config
from models.files import PROJECT as ROOT
from models.text.config import MarkupConfig
from tasks.gate import rescore
from tasks.store.fingerprint import code_of, versions_of
from tasks.train import train

STAGES = [*CHAIN, rescore]
PROJECT = {
    "tasks/clean.py": '''
        """Clean."""
        import re
        import subprocess
        import sys
        from typing import TYPE_CHECKING

        from prefect import task

        from models.data.schemas import TURNS
        from models.text.config import Limits

        if TYPE_CHECKING:
            from models.text.kinds import Kind

        LIMIT = 60


        def trace(function):
            return function


        def clean(rows, limits: Limits, kind: "Kind", limit=LIMIT):
            """Keep what is short."""
            from models.text.normalisation import normalise

            subprocess.run([sys.executable, "-m", "models.training.trainer"], check=True)
            return [normalise(_tidy(row)) for row in rows if len(row) < limits.half], TURNS


        @trace
        def _tidy(row):
            def inner(text):
                return text.strip()
            return inner(row)


        @task(name="clean")
        def shell(rows):
            return clean(rows)
    ''',
    "models/__init__.py": "",
    "models/text/__init__.py": "",
    "models/text/config.py": '''
        class Base:
            def least(self):
                return 1


        class Limits(Base):
            """How long a text may be."""

            size: int = 8
            """Characters."""

            @property
            def half(self):
                return self.size // 2

            def most(self):
                return self.size * 4
    ''',
    "models/text/normalisation.py": """
        import re

        BLANKS = re.compile(r"\\s+")  # one or more
        MARKS = {"quote": "'", "dash": "-"}
        TABLE = {}
        TABLE.update(MARKS)
        try:
            import fast
            HAVE = True
        except ImportError:
            HAVE = False


        def normalise(text):
            return BLANKS.sub(" ", text).translate(MARKS)
    """,
    "models/text/kinds.py": "class Kind:\n    def name(self):\n        return 'kind'\n",
    "models/text/words.txt": "a\nb\n",
    "models/data/__init__.py": "",
    "models/data/schemas.py": 'TURNS = ("id", "text")\n',
    "models/training/__init__.py": "",
    "models/training/trainer.py": "from models.training.step import step\n\n\ndef main():\n    step(1)\n",
    "models/training/step.py": "def step(x):\n    return x * 2\n",
    "models/other/__init__.py": "",
    "models/other/report.py": "def report():\n    return 1\n",
    "settings.py": "HOME = 1\n",
    "README.md": "Read me.\n",
}


def handle(name):
    """A fake function with a name such as `tasks.clean.clean`; the project that the tests edit is never
    imported."""

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


def of(root, name="tasks.clean.clean"):
    return code_of(handle(name), root=root).sha256


def modules(root, name="tasks.clean.clean"):
    return code_of(handle(name), root=root).modules


def libraries(root, name="tasks.clean.clean"):
    return code_of(handle(name), root=root).libraries


@pytest.fixture
def root(tmp_path):
    write(tmp_path, PROJECT)
    return tmp_path


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of this project that tests may edit; each test undoes its edits."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("tasks", "corpus", "models"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pyc*"))
    return folder


def test_the_modules_that_count_are_those_that_are_imported_or_started_with_their_packages(root):
    assert modules(root) == (
        "models",
        "models.data",
        "models.data.schemas",
        "models.text",
        "models.text.config",
        "models.text.kinds",
        "models.text.normalisation",
        "models.training",
        "models.training.step",
        "models.training.trainer",
        "tasks.clean",
    )


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("tasks/clean.py", "LIMIT = 60", "LIMIT = 61", id="a constant"),
        pytest.param("tasks/clean.py", "text.strip()", "text.lstrip()", id="a helper"),
        pytest.param("tasks/clean.py", "limit=LIMIT", "limit=60", id="a default"),
        pytest.param("tasks/clean.py", "@trace\n", "", id="a decorator"),
        pytest.param("tasks/clean.py", "limits: Limits", "limits: object", id="an annotation"),
        pytest.param("tasks/clean.py", "-m", "-Om", id="how a process is started"),
        pytest.param("models/text/config.py", "// 2", "// 3", id="a property of a config"),
        pytest.param("models/text/config.py", "* 4", "* 5", id="a method of a config"),
        pytest.param("models/text/config.py", "size: int = 8", "size: int = 9", id="a field's default"),
        pytest.param("models/text/config.py", "size: int = 8", "size: float = 8", id="a field's type"),
        pytest.param("models/text/config.py", "return 1", "return 2", id="a base class"),
        pytest.param("models/text/config.py", "Limits(Base)", "Limits", id="that it is a base"),
        pytest.param("models/text/normalisation.py", 'r"\\s+"', 'r"\\s*"', id="imported in a function"),
        pytest.param("models/text/normalisation.py", '"dash": "-"', '"dash": "--"', id="a table"),
        pytest.param("models/text/normalisation.py", "import re\n", "import regex as re\n", id="an import"),
        pytest.param("models/text/normalisation.py", "TABLE.update(MARKS)", "", id="what an import runs"),
        pytest.param("models/text/normalisation.py", "HAVE = False", "HAVE = None", id="another branch"),
        pytest.param("models/text/kinds.py", "'kind'", "'sort'", id="imported for an annotation"),
        pytest.param("models/data/schemas.py", '("id", "text")', '("text", "id")', id="the order"),
        pytest.param("models/training/trainer.py", "step(1)", "step(2)", id="started as a process"),
        pytest.param("models/training/step.py", "x * 2", "x * 3", id="imported by what is started"),
        pytest.param("models/text/words.txt", "b", "c", id="a data file"),
        pytest.param("models/text/__init__.py", "", "X = 1", id="a package"),
    ],
)
def test_a_change_of_what_a_stage_can_reach_changes_it(root, file, old, new):
    before = of(root)
    edit(root, file, old, new)
    assert of(root) != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        pytest.param("models/text/normalisation.py", "  # one or more", "  # at least one", id="a comment"),
        pytest.param("tasks/clean.py", '"""Keep what is short."""', '"""Keep it."""', id="a docstring"),
        pytest.param("tasks/clean.py", '"""Keep what is short."""', "", id="that there is a docstring"),
        pytest.param("tasks/clean.py", '"""Clean."""', '"""Clean it."""', id="a docstring of a module"),
        pytest.param("models/text/config.py", "Characters.", "In characters.", id="one of a field"),
        pytest.param("models/text/config.py", "How long", "How short", id="one of a class"),
        pytest.param("tasks/clean.py", "LIMIT = 60", "LIMIT = 60\n'''Of a row.'''\n", id="a new one"),
        pytest.param("tasks/clean.py", "LIMIT = 60", "LIMIT = 60\n\n\n\n", id="blank lines"),
        pytest.param("tasks/clean.py", "LIMIT = 60", "LIMIT = 6_0", id="another spelling of a number"),
        pytest.param("models/text/normalisation.py", '"\'"', "'\\x27'", id="of a text"),
        pytest.param("tasks/clean.py", "inner(row)\n", "inner(\n        row)\n", id="the layout"),
        pytest.param("models/other/report.py", "return 1", "return 2", id="a module that nobody imports"),
        pytest.param("settings.py", "HOME = 1", "HOME = 2", id="another part"),
        pytest.param("README.md", "Read", "Do read", id="a file of the project's folder"),
    ],
)
def test_a_change_of_anything_else_does_not(root, file, old, new):
    before = of(root)
    edit(root, file, old, new)
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
        ("from models.text.normalisation import *", "normalise(x)"),
        ("from models.text import normalisation", "normalisation.normalise(x)"),
        ("from models import text", "text.normalisation.normalise(x)"),
        ("from models import text as t", "t.normalisation.normalise(x)"),
        ("import models.text.normalisation", "models.text.normalisation.normalise(x)"),
        ("import models.text.normalisation as t", "t.normalise(x)"),
        ("import models", "models.text.normalisation.normalise(x)"),
        ("import models as m", "m.text.normalisation.normalise(x)"),
        ("from tasks.other import again", "again(x)"),
        ("try:\n    from fast import normalise\nexcept ImportError:\n"
         "    from models.text.normalisation import normalise", "normalise(x)"),
        ("import sys\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
         "    from models.text.normalisation import normalise", "normalise(x)"),
        ("from importlib import import_module",
         "import_module('models.text.normalisation').normalise(x)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["top", "function", "method"])
def test_every_form_of_import_is_followed(root, imports, use, where):
    inside = "pass" if where == "top" else imports
    body = f"def job(x):\n{textwrap.indent(inside, '    ')}\n    return {use}\n"
    if where == "method":
        body = f"class Job:\n{textwrap.indent(body, '    ')}\n\ndef job(x):\n    return Job().job(x)\n"
    write(
        root,
        {
            "tasks/job.py": f"{imports}\n\n{body}" if where == "top" else body,
            "tasks/other.py": "from models.text.normalisation import normalise as again\n",
        },
    )
    found = set(modules(root, "tasks.job.job")) - {"tasks.other"}
    assert found == {"models", "models.text", "models.text.normalisation", "tasks.job"}
    before = of(root, "tasks.job.job")
    edit(root, "models/text/normalisation.py", 'sub(" ", text)', 'sub("", text)')
    assert of(root, "tasks.job.job") != before


def test_a_relative_import_is_an_error_that_names_its_line(root):
    write(root, {"tasks/job.py": "def job():\n    from .clean import LIMIT\n    return LIMIT\n"})
    with pytest.raises(
        ValueError, match=r"tasks/job.py:2: relative imports are not supported; write the full name"
    ):
        of(root, "tasks.job.job")


def test_a_re_export_of_a_package_is_followed(root):
    write(
        root,
        {
            "models/__init__.py": "from models.text.normalisation import normalise as tidy\n",
            "tasks/job.py": "from models import tidy\n\ndef job(x):\n    return tidy(x)\n",
        },
    )
    assert "models.text.normalisation" in modules(root, "tasks.job.job")
    before = of(root, "tasks.job.job")
    edit(root, "models/__init__.py", "normalise as tidy", "display as tidy")
    assert of(root, "tasks.job.job") != before


def test_two_imports_that_swap_their_names_change_it(root):
    text = "from models.text.normalisation import {} as a, {} as b\n\ndef job(x):\n    return a(b(x))\n"
    write(root, {"tasks/job.py": text.format("normalise", "display")})
    before = of(root, "tasks.job.job")
    write(root, {"tasks/job.py": text.format("display", "normalise")})
    assert of(root, "tasks.job.job") != before


def test_modules_that_import_each_other_end(tmp_path):
    write(
        tmp_path,
        {
            "a.py": "import b\nfrom b import ghost\n\ndef ping():\n    return b.pong(), ghost\n",
            "b.py": "import a\nfrom a import ghost\n\ndef pong():\n    return a.ping()\n",
        },
    )
    assert modules(tmp_path, "a.ping") == ("a", "b")


def test_a_package_that_is_started_counts_with_its_main(root):
    write(
        root,
        {
            "models/training/__main__.py": "from models.other.report import report\nreport()\n",
            "tasks/job.py": "def job():\n    return ['-m', 'models.training']\n",
        },
    )
    assert set(modules(root, "tasks.job.job")) >= {"models.training.__main__", "models.other.report"}


def test_a_text_that_names_no_module_leads_nowhere(root):
    texts = ["settings", "models.text.gone", "models.text.normalisation.", "a/models.other.report", "1.5"]
    write(root, {"tasks/job.py": f"def job():\n    return {texts}\n"})
    assert modules(root, "tasks.job.job") == ("tasks.job",)


@pytest.mark.parametrize("file", ["models/text/more.json", "models/text/lists/deep/more.bin"])
def test_a_data_file_that_comes_or_goes_or_changes_its_name_changes_it(root, file):
    digests = [of(root)]
    write(root, {file: "a\nb\n"})
    digests.append(of(root))
    path = root / file
    path = path.rename(path.with_name("renamed"))
    digests.append(of(root))
    path.unlink()
    assert len(set(digests)) == 3
    assert of(root) == digests[0]


@pytest.mark.parametrize(
    "file", ["models/text/__pycache__/x.pyc", "models/text/.DS_Store", "models/other/x.txt", "models/deep/x/y.py"]
)  # fmt: skip
def test_a_file_that_python_or_an_editor_leaves_or_that_lies_elsewhere_does_not(root, file):
    before = of(root)
    write(root, {file: "left"})
    assert of(root) == before


@pytest.fixture
def install(tmp_path_factory, monkeypatch):
    """A function that installs a given version of a fake library where Python finds it."""
    site = tmp_path_factory.mktemp("site")
    monkeypatch.syspath_prepend(site)

    def put(version, name="quickwords", provides="quickwords"):
        shutil.rmtree(site)
        write(
            site / f"{name.replace('-', '_')}-{version}.dist-info",
            {
                "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
                "top_level.txt": f"{provides}\n",
            },
        )
        importlib.invalidate_caches()
        versions_of.cache_clear()

    yield put
    versions_of.cache_clear()


def test_a_library_counts_with_its_public_version_and_apart_from_the_code(root, install):
    edit(root, "models/training/step.py", "def step", "import quickwords.deep\n\n\ndef step")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    versions_of.cache_clear()
    absent, sha256 = libraries(root), of(root)
    assert absent == {"Python": python, "fast": "absent", "quickwords": "absent"}
    for version, public in [("1.0", "1.0"), ("1.1+cu130", "1.1"), ("1.1", "1.1"), ("1.2rc1", "1.2rc1")]:
        install(version)
        assert libraries(root) == {"Python": python, "fast": "absent", "quickwords": public}
        assert of(root) == sha256


def test_a_library_is_known_by_the_name_of_its_import(root, install):
    edit(root, "models/training/step.py", "def step", "import quickwords\n\n\ndef step")
    install("2.0", name="quick-words-for-python")
    assert libraries(root)["quick-words-for-python"] == "2.0"


def test_a_library_that_cannot_decide_an_output_does_not_count_and_a_new_one_does(root):
    text = "import json, pydantic, httpx2, nobody_knows_it\nfrom mlflow.tracking import MlflowClient\ndef job(): ..."
    write(root, {"tasks/job.py": text})
    assert set(libraries(root, "tasks.job.job")) == {"Python", "nobody_knows_it"}


@pytest.mark.parametrize("name", ["tasks.gone.clean", "nowhere.job"])
def test_a_function_that_cannot_be_found_is_an_error_and_no_empty_fingerprint(root, name):
    with pytest.raises(ValueError, match="is not in a module under"):
        of(root, name)


def test_methods_and_inner_functions_count_as_the_module_in_which_they_stand(root):
    method = handle("tasks.clean.train")
    for name in ("Trainer.train", "outer.<locals>.inner"):
        method.__qualname__ = name
        assert code_of(method, root=root).sha256 == of(root)


def test_a_function_that_was_loaded_from_its_path_is_found_by_it(root):
    path = root / "models" / "data" / "schemas.py"
    edit(root, "models/data/schemas.py", "TURNS =", "def job(): return TURNS\nTURNS =")
    spec = importlib.util.spec_from_file_location("__loaded__", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert code_of(module.job, root=root).modules == ("models", "models.data", "models.data.schemas")


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_our_own_code_without_comments_and_layout_has_the_same_fingerprint(stage, copy, tmp_path):
    shutil.copytree(copy, tmp_path / "bare")
    for path in (tmp_path / "bare").rglob("*.py"):
        path.write_text(ast.unparse(ast.parse(path.read_text())), encoding="utf-8")
    assert code_of(stage.build, root=tmp_path / "bare") == code_of(stage.build, root=copy) == stage.code


def config_classes(kind):
    """A config class and the config classes of its fields, recursively."""
    inner = [field.annotation for field in kind.model_fields.values() if isinstance(field.annotation, type)]
    return {kind}.union(*(config_classes(each) for each in inner if issubclass(each, Config)))


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_method_of_each_config_class_that_a_stage_is_given_is_part_of_its_code(stage, copy):
    before = code_of(stage.build, root=copy)
    classes = config_classes(inspect.signature(stage.build).parameters["config"].annotation)
    also = (
        {MarkupConfig} if stage.name in ("train", "evaluate", "rescore") else set()
    )  # these stages read it from the model's files
    for kind in classes | also:
        file = f"{kind.__module__.replace('.', '/')}.py"
        header = re.search(rf"^class {kind.__name__}\(.*\):\n", (copy / file).read_text(), re.MULTILINE)[0]
        added = f"{header}    def added(self): return 1\n\n"
        edit(copy, file, header, added)
        assert code_of(stage.build, root=copy) != before, kind
        edit(copy, file, added, header)
    assert code_of(stage.build, root=copy) == before


def test_another_share_for_the_context_makes_other_examples_and_another_model(copy):
    before = {stage.name: code_of(stage.build, root=copy) for stage in STAGES}
    edit(copy, "models/text/config.py", "self.max_tokens // 4", "self.max_tokens // 2")
    changed = {stage.name for stage in STAGES if code_of(stage.build, root=copy) != before[stage.name]}
    edit(copy, "models/text/config.py", "self.max_tokens // 2", "self.max_tokens // 4")
    assert changed == {"export", "train", "evaluate", "rescore"}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_no_stage_reaches_prefect_mlflow_or_the_settings(stage):
    """An edit of a flow, of the registry or of the command line must not cause a new training run."""
    parts = {name.partition(".")[0] for name in stage.code.modules}
    assert parts <= {"corpus", "models"}
    assert not any(name.startswith("models.registry") for name in stage.code.modules)


def test_what_a_training_is_made_of_is_seen_through_the_process_that_it_starts():
    code = train.code
    assert {"models.training.trainer", "models.training.step", "models.network.networks"} <= set(code.modules)
    assert {"Python", "torch", "transformers", "numpy"} <= code.libraries.keys()


def test_the_code_of_forty_modules_takes_little_longer_than_to_parse_them(tmp_path):
    """The test compares processor times on the same machine, and takes the smallest of three ratios."""
    body = "\n".join(f"def f{i}(x):\n    return [x * {i} for _ in range(x)]" for i in range(40))

    def ratio(again):
        text = f"{body}\nAGAIN = {again}\n"  # new text each time, because parsed text is cached
        for i in range(40):
            write(tmp_path, {f"m{i}.py": f"from m{i + 1} import f1 as nxt\n{text}\nf1 = nxt\n"})
        write(tmp_path, {"m40.py": text})
        started_s = time.process_time()
        assert len(modules(tmp_path, "m0.f1")) == 41
        fingerprinted_s = time.process_time()
        for path in tmp_path.glob("*.py"):
            ast.parse(path.read_bytes())
        return (fingerprinted_s - started_s) / (time.process_time() - fingerprinted_s)

    assert min(map(ratio, range(3))) < 10


def test_a_module_is_parsed_once_for_all_stages(root):
    of(root)

    def seconds():
        started_s = time.process_time()
        of(root, "tasks.clean.shell")
        return time.process_time() - started_s

    assert min(seconds() for _ in range(3)) < 0.02


def test_the_root_is_this_project():
    assert Path(__file__).is_relative_to(ROOT)
