"""The files of examples/ci are what their platforms read, by the platforms' own schemas."""

import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples" / "ci"
LINTERS = {
    "github-actions.yml": ["check-jsonschema", "--builtin-schema", "vendor.github-workflows"],
    "gitlab-ci.yml": ["check-jsonschema", "--builtin-schema", "vendor.gitlab-ci",
                      "--data-transform", "gitlab-ci"],
    "kubernetes-job.yaml": ["kubernetes-validate", "--strict"],
}
# A word of each file, and one that no schema knows in its place.
MISTAKES = {"github-actions.yml": ("runs-on", "run-on"), "gitlab-ci.yml": ("script:", "scripts:"),
            "kubernetes-job.yaml": ("backoffLimit", "backofLimit")}


def lint(name, file):
    program, *words = LINTERS[name]
    program = pathlib.Path(sys.executable).parent / program
    if not program.exists():
        pytest.skip(f"{program.name} is not installed; make test-agents installs it")
    return subprocess.run([program, *words, file], text=True, capture_output=True,
                          stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("name", LINTERS)
def test_a_pipelines_file_is_what_its_platform_reads(name):
    result = lint(name, EXAMPLES / name)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", LINTERS)
def test_its_linter_sees_a_mistake(name, tmp_path):
    right, wrong = MISTAKES[name]
    text = (EXAMPLES / name).read_text()
    assert right in text
    broken = tmp_path / name
    broken.write_text(text.replace(right, wrong))
    assert lint(name, broken).returncode != 0
