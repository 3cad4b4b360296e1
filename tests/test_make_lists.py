"""tools/make_lists.py on lists with the sizes and overlaps of the real ones."""

import make_lists
import pytest

from gcrf import voc


@pytest.fixture
def lists():
    """All five lists; SBD labels 1100 images of VOC's train, 1137 of its val, and 9118 others."""
    ids = [f"2008_{number:06d}" for number in range(20000)]
    train, val, rest = ids[:1464], ids[1464:2913], ids[2913:]
    sbd = train[:1100] + val[:1137] + rest[:9118]
    return {
        "voc_train": train,
        "voc_val": val,
        "voc_test": rest[15000:16456],
        "sbd_train": sbd[2857:],
        "sbd_val": sbd[:2857],
    }


def test_train_aug_is_all_that_is_labelled_but_val(lists):
    made = make_lists.make_lists(**lists)
    assert {name: len(ids) for name, ids in made.items()} == {
        "train_aug": 10582,
        "val": 1449,
        "test": 1456,
    }
    assert not {*made["train_aug"]} & {*lists["voc_val"]}
    assert {*lists["voc_train"]} < {*made["train_aug"]}
    assert made["val"] == lists["voc_val"]


def test_without_vocs_test_images_there_is_no_test_list(lists):
    """VOC hands them out only after registration."""
    assert set(make_lists.make_lists(**lists | {"voc_test": []})) == {"train_aug", "val"}


def test_a_missing_id_is_noticed(lists):
    for name in lists:
        with pytest.raises(ValueError, match=r"\d+ ids, expected \d+"):
            make_lists.make_lists(**lists | {name: lists[name][1:]})


def test_an_id_twice_in_a_list_is_noticed(lists):
    """The number of ids is right."""
    doubled = [lists["sbd_val"][1], *lists["sbd_val"][1:]]
    with pytest.raises(ValueError, match="SBD val: an id stands twice"):
        make_lists.make_lists(**lists | {"sbd_val": doubled})


@pytest.mark.parametrize("name", ["voc_val", "voc_test"])
def test_an_image_of_val_or_test_in_training_is_noticed(name, lists):
    """The numbers are all right: the id that leaves val joins train_aug through SBD."""
    not_in_sbd = lists["voc_train"][1200]
    leaky = [not_in_sbd, *lists[name][1:]]
    with pytest.raises(ValueError, match=f"1 images of {name[4:]} are in training too"):
        make_lists.make_lists(**lists | {name: leaky})


def write(folder, lists):
    """Write the lists where VOC and SBD keep them."""
    for name in ("train", "val", "test"):
        path = voc.list_path(folder / "voc", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lists[f"voc_{name}"]) + "\n")
    (folder / "sbd").mkdir()
    for name in ("train", "val"):
        (folder / f"sbd/{name}.txt").write_text("\n".join(lists[f"sbd_{name}"]) + "\n")


def run(folder):
    """Run the tool and return its exit code; the output is folder/lists."""
    options = {"--voc": "voc", "--sbd": "sbd", "--out": "lists"}
    return make_lists.main(
        [word for o, name in options.items() for word in (o, f"{folder}/{name}")]
    )


def test_the_tool_writes_the_lists(lists, tmp_path):
    """Running it again overwrites them."""
    write(tmp_path, lists)
    for _ in range(2):
        assert run(tmp_path) == 0
        made = make_lists.make_lists(**lists)
        for name, ids in made.items():
            assert voc.read_ids(tmp_path / f"lists/{name}.txt") == ids


def test_the_tool_names_a_file_that_is_missing(lists, tmp_path, capsys):
    write(tmp_path, lists)
    (tmp_path / "sbd/val.txt").unlink()
    assert run(tmp_path) == 1
    assert "sbd/val.txt" in capsys.readouterr().err
