"""An output is published completely and only once, even if two processes publish it at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.store import artifact


@pytest.mark.parametrize("damaged", [False, True])
def test_two_that_publish_the_same_output_at_once_both_end_well(tmp_path, damaged):
    for number in range(100):
        final, barrier = tmp_path / f"{number}", threading.Barrier(2)
        if damaged:
            final.mkdir()
            (final / "half").write_text("a kill left it")

        def build(name, final=final, barrier=barrier):
            partial = tmp_path / f"{final.name}-{name}"
            partial.mkdir()
            (partial / "rows").write_text("1")
            artifact.write_manifest(partial, artifact.new_manifest(partial, {}, 1, 0.0))
            barrier.wait()
            artifact.publish(partial, final)

        with ThreadPoolExecutor() as pool:
            for ended in [pool.submit(build, name) for name in "ab"]:
                ended.result()
        assert artifact.verify(final)
