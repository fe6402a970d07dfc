"""The Word2Vec scripts in examples/ and in the guides run and do what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import convec
import pytest
import ranks
from convec.models import Word2Vec

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def code(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


def run(name: str, *arguments: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_sentences() -> None:
    output, errors = run("word2vec_sentences.py")
    assert len(re.findall(r"^\w+ +-?\d\.\d{3}$", output, re.MULTILINE)) == 10
    assert errors.count("UserWarning") == 2
    assert "sentence.split()" in errors


def test_novels() -> None:
    output, errors = run("word2vec_novels.py")
    losses = [float(loss.replace(",", "")) for loss in re.findall(r"loss ([\d,]+);", output)]
    assert len(losses) == 5
    assert losses[-1] < 0.95 * losses[0]
    assert "words of 724,480 in 32,767 sentences" in output
    assert "tuesday" in re.search(r"^monday: (.*)$", output, re.MULTILINE).group(1)
    assert errors == ""


def test_novels_of_ones_own(tmp_path) -> None:
    path = tmp_path / "text"
    path.write_text("my sister and he and she and brother walk ride drive letter\n" * 20)
    output, _ = run("word2vec_novels.py", str(path))
    assert "240 in 20 sentences" in output


def test_readme(capsys) -> None:
    (piece,) = (piece for piece in code(ROOT / "README.md") if "Word2Vec" in piece)
    exec(compile(piece, "README.md", "exec"), {})
    assert "('queen', " in capsys.readouterr().out


def test_guide(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = [["the", "king", "rules", "here"], ["the", "queen", "rules", "there"]] * 20
    names = {"sentences": text, "corpus": text}
    trained = []
    for piece in code(ROOT / "docs" / "word2vec.md"):
        if "mpiexec" in piece:  # test_guide_to_several_processes
            continue
        if 'device="cuda"' in piece and "cuda:0" not in convec.list_devices():
            with pytest.raises(RuntimeError, match="CUDA is asked for, but"):
                exec(compile(piece, "word2vec.md", "exec"), names)
            continue
        exec(compile(piece, "word2vec.md", "exec"), names)
        trained.append(names["model"].epochs_trained)
    assert trained[0] == 5
    assert 15 in trained
    assert (tmp_path / "word2vec.model").exists()
    assert (tmp_path / "checkpoint").exists()


def test_guide_to_several_processes(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("the king rules here\nthe queen rules there\n" * 20)
    (script,) = (piece for piece in code(ROOT / "docs" / "word2vec.md") if "mpiexec" in piece)
    ranks.run(2, script)
    assert Word2Vec.load("word2vec.model").epochs_trained == 5
