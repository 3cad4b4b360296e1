"""LMDBs of Datum records, the format of Caffe's own Data layer."""

import concurrent.futures

import lmdb
from caffe.proto import caffe_pb2

from gcrf.images import decode_image
from gcrf.label_maps import read_label_map

FIRST_MAP_SIZE = 64 << 20  # bytes; doubled whenever it is full
BATCH_BYTES = 32 << 20  # bytes per transaction: bounds the memory


def encode_record(data, channels, height, width):
    """Return `data`, an encoded image of that shape, as the bytes of a Datum."""
    datum = caffe_pb2.Datum(data=data, channels=channels, height=height, width=width, encoded=True)
    return datum.SerializeToString()


class RecordReader:
    """The records of an LMDB folder, by key."""

    def __init__(self, path):
        """Open the LMDB; raise OSError if it cannot be read."""
        try:
            self._transaction = lmdb.open(str(path), readonly=True, lock=False).begin()
        except lmdb.Error as error:
            raise OSError(f"{path}: cannot read an LMDB: {error}") from error
        self.keys = [key.decode() for key in self._transaction.cursor().iternext(values=False)]

    def read(self, key):
        """Return the Datum stored under a key; raise KeyError if there is none."""
        value = self._transaction.get(key.encode())
        if value is None:
            raise KeyError(key)
        return caffe_pb2.Datum.FromString(value)


def read_samples(split, count):
    """Yield (image, label map) of the first records of a split, a random sample: it is shuffled.

    split: folder made by tools/prepare_lmdb.py; images and label maps as in images and label_maps.
    """
    images, labels = (RecordReader(split / name) for name in ("images", "labels"))
    for key in images.keys[:count]:
        yield decode_image(images.read(key).data), read_label_map(labels.read(key).data)


class RecordWriter:
    """Writes records, in the order of their keys, to a new LMDB folder whose map grows as needed.

    A separate thread writes one batch while the caller makes the next.
    """

    def __init__(self, path):
        path.mkdir()
        self._path = path
        self._environment = lmdb.open(str(path), map_size=FIRST_MAP_SIZE, lock=False)
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._batch, self._batch_bytes, self._written = [], 0, None

    def write(self, key, record):
        """Add a record; raise OSError if an earlier one could not be written."""
        self._batch.append((key.encode(), record))
        self._batch_bytes += len(record)
        if self._batch_bytes >= BATCH_BYTES:
            self._flush()

    def close(self):
        """Write what is left; afterwards all of it is on the disk."""
        try:
            self._flush()
            self._written.result()
        finally:
            self._thread.shutdown()
            self._environment.close()

    def _flush(self):
        if self._written:
            self._written.result()
        self._written = self._thread.submit(self._commit, self._batch)
        self._batch, self._batch_bytes = [], 0

    def _commit(self, batch):
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, record in batch:
                        if not transaction.put(key, record, append=True):
                            raise ValueError(f"{self._path}: key {key} is not after the last one")
                return
            except lmdb.MapFullError:
                self._environment.set_mapsize(2 * self._environment.info()["map_size"])
            except lmdb.Error as error:
                raise OSError(f"{self._path}: cannot write: {error}") from error
