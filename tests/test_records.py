"""gcrf.records: what is written to an LMDB of Datum records is read back, whatever its size."""

import resource

import lmdb
import pytest

from gcrf import records


def test_records_come_back_in_the_order_of_their_keys(tmp_path):
    """They have the fields that Caffe's Data layer reads."""
    writer = records.RecordWriter(tmp_path / "db")
    for number in range(3):
        writer.write(f"{number:08d}_x", records.encode_record(b"%d" % number, 3, 4, 5))
    writer.close()
    reader = records.RecordReader(tmp_path / "db")
    assert reader.keys == ["00000000_x", "00000001_x", "00000002_x"]
    datum = reader.read("00000001_x")
    assert (datum.data, datum.encoded) == (b"1", True)
    assert (datum.channels, datum.height, datum.width) == (3, 4, 5)


def test_the_map_grows_with_the_records(tmp_path, monkeypatch):
    """It starts too small for any record, and grows over many transactions."""
    monkeypatch.setattr(records, "FIRST_MAP_SIZE", 1 << 16)
    monkeypatch.setattr(records, "BATCH_BYTES", 1 << 18)
    writer = records.RecordWriter(tmp_path / "db")
    for number in range(60):
        writer.write(f"{number:08d}", records.encode_record(bytes([number]) * 100_000, 3, 1, 1))
    writer.close()
    reader = records.RecordReader(tmp_path / "db")
    assert len(reader.keys) == 60
    for number, key in enumerate(reader.keys):
        assert reader.read(key).data == bytes([number]) * 100_000


def test_a_key_out_of_order_is_refused(tmp_path):
    """LMDB itself would drop the record silently."""
    writer = records.RecordWriter(tmp_path / "db")
    writer.write("b", b"")
    writer.write("a", b"")
    with pytest.raises(ValueError, match="'a' is not after the last one"):
        writer.close()


def test_a_full_disk_is_an_error_that_names_the_folder(tmp_path):
    """A limit on the size of files stands in for the full disk."""
    writer = records.RecordWriter(tmp_path / "db")
    writer.write("a", bytes(1 << 20))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, hard))
    try:
        with pytest.raises(OSError, match="db: cannot write: "):
            writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_folder_without_a_database_is_named(tmp_path):
    """It is not created either."""
    with pytest.raises(OSError, match="nothing: cannot read an LMDB"):
        records.RecordReader(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_key_that_is_missing_is_an_error(tmp_path):
    lmdb.open(str(tmp_path / "db"), lock=False).close()
    with pytest.raises(KeyError):
        records.RecordReader(tmp_path / "db").read("a")
