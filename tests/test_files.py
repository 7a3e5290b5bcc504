"""Files of ratings: read where it is certain what they say, else refused with what would say it."""

import numpy as np
import pytest

from jaxmf.data.datasets import File, read

ROWS = [(1, 10, 4.5), (1, 11, 3.0), (2, 10, 2.5)]
NAMES = ["user", "item", "rating"]


def written(sep=",", header=True, end="", decimal="."):
    lines = [sep.join(NAMES)] if header else []
    lines += [sep.join([str(u), str(i), str(r).replace(".", decimal)]) + end for u, i, r in ROWS]
    return "\n".join(lines) + "\n"


GOOD = {
    "commas at the end": written(end=",").encode(),
    "double colons": written("::").encode(),
    "semicolons, decimal commas": written(";", decimal=",").encode(),
    "tabs": written("\t").encode(),
    "byte order mark": written().encode("utf-8-sig"),
    "UTF-16": written().encode("utf-16"),
    "blanks": written(", ").encode(),
    "comments": b"# about\n" + written().encode(),
    "repeated header": (written() + "user,item,rating\n").encode(),
    "carriage returns": written().replace("\n", "\r\n").encode(),
    "another's letters": b"user,item,rating,title\n1,10,4.5,Caf\xe9\n1,11,3.0,b\n2,10,2.5,c\n",
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_certain_is_read(tmp_path, name):
    (tmp_path / "r.csv").write_bytes(GOOD[name])
    data = read(tmp_path / "r.csv")
    assert data.users.decode(data.ratings.user).tolist() == [1, 1, 2]
    assert data.items.decode(data.ratings.item).tolist() == [10, 11, 10]
    np.testing.assert_allclose(data.ratings.rating, [4.5, 3, 2.5])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no rows"),
        (b"user,item,rating\n", "no rows"),
        (written(header=False).encode(), r"first line is '1,10,4.5'.*names="),
        (b"user,item,rating\n1,2,3,4\n", r"sep="),
        (b"user,item,rating\n" + 60 * b"1,2,3\n" + b"1,3,3,4\n", "more values than the 3 columns"),
        (b"user item\n1 2\n", "sep="),
        (b"user,item,rating\nCaf\xe9,2,3\n", "encoding="),
        (written().encode("utf-16-le"), "encoding="),
        (b"user;item;rating\n1;2;3,125\n", "decimal="),
        (b"user,item,rating,user\n1,2,3,4\n", "each once"),
    ],
)
def test_what_is_not_certain_is_refused(tmp_path, text, words):
    (tmp_path / "r.csv").write_bytes(text)
    with pytest.raises(ValueError, match=words):
        read(tmp_path / "r.csv")


def test_ids_that_look_like_something_else_are_ids(tmp_path):
    (tmp_path / "r.csv").write_text("user,item,rating\nNA,007,1\nnull,7,2\n")
    data = read(tmp_path / "r.csv")
    assert data.users.decode(data.ratings.user).tolist() == ["NA", "null"]
    assert data.items.decode(data.ratings.item).tolist() == ["007", "7"]


def test_options_say_what_is_not_certain(tmp_path):
    (tmp_path / "r.dat").write_bytes(b"1;Caf\xe9;3,125\n")
    data = read(File(tmp_path / "r.dat", sep=";", encoding="latin-1", names=NAMES, decimal=","))
    assert (data.items.decode([0])[0], float(data.ratings.rating[0])) == ("Café", 3.125)


def test_json_lines(tmp_path):
    (tmp_path / "r.jsonl").write_text('{"user": "007", "item": 18446744073709551617, "rating": 2}\n')
    data = read(tmp_path / "r.jsonl")
    assert (data.users.decode([0])[0], data.items.decode([0])[0]) == ("007", 2**64 + 1)
    (tmp_path / "r.jsonl").write_text('{"user": 1')
    with pytest.raises(ValueError, match="line 1"):
        read(tmp_path / "r.jsonl")
