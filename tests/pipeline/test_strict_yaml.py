"""YAML 1.2 numbers and booleans, no repeated keys, no tags."""

import math

import pytest
import yaml

from pipeline_lib.pipeline.strict_yaml import DeclarationError, load


def read(tmp_path, text):
    file = tmp_path / "file.yaml"
    file.write_text(text)
    return load(file)


@pytest.mark.parametrize(("text", "value"), [
    ("1e-3", 1e-3), ("1E5", 1e5), (".5", 0.5), ("-2.5", -2.5), ("3.", 3.0), ("0x10", 16), ("012", 12), ("-7", -7), ("true", True), ("FALSE", False),
    ("null", None), ("~", None), ("", None), (".inf", math.inf), ("-.inf", -math.inf), ("on", "on"), ("yes", "yes"), ("no", "no"), ("12:30", "12:30"),
    ("2026-11-24", "2026-11-24"), ("1_000", "1_000"), ('"1"', "1"), ("2310.14344v1", "2310.14344v1"), ("-", None),
])
def test_scalars_are_read_as_yaml_1_2(tmp_path, text, value):
    if text == "-":
        assert read(tmp_path, "key: [-]") == {"key": ["-"]}
        return
    found = read(tmp_path, f"key: {text}")["key"]
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number(tmp_path):
    assert math.isnan(read(tmp_path, "key: .nan")["key"])


def test_agrees_with_pyyaml_where_both_versions_do(tmp_path):
    text = "a: {b: [1, 2.5, x, 'y z', true]}\nc: |\n  two\n  lines\nd: >\n  folded\n  text\n"
    assert read(tmp_path, text) == yaml.safe_load(text)


@pytest.mark.parametrize(("text", "says"), [
    ("a: 1\nb: 2\na: 3\n", r"line 3, column 1: the key 'a' stands twice, first in line 1"),
    ("a: {b: 1, b: 2}\n", r"line 1, column 11: the key 'b' stands twice"),
    ("a: !!python/object/apply:os.system [ls]\n", r"line 1, column 4: could not determine a constructor"),
    ("a: !!python/name:os.system\n", r"could not determine a constructor"),
    ("- 1\n- 2\n", r"a mapping of keys is expected, not list"),
    ("a: [1\n", r"did not find expected"),
    ("? [1, 2]\n: 3\n", r"a key must be a word or a number"),
    ("a: \t1\n\tb: 2\n", r"line 2"),
])
def test_what_is_wrong_is_named_with_file_and_line(tmp_path, text, says):
    with pytest.raises(DeclarationError, match=says) as error:
        read(tmp_path, text)
    assert "file.yaml" in str(error.value)


def test_a_missing_file_and_bytes_that_are_no_text_are_named(tmp_path):
    with pytest.raises(DeclarationError, match="absent.yaml: cannot be read"):
        load(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(DeclarationError, match="binary.yaml"):
        load(tmp_path / "binary.yaml")


def test_an_empty_file_declares_nothing(tmp_path):
    assert read(tmp_path, "") == {}
