from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sddp.cache import store
from sddp.cache.store import Record, RecordFolder, read_record, store_key, write_record
from sddp.errors import DataError, StoreWarning

NUMBERS = np.array([0.1, -0.0, np.nan, np.inf, 5e-324, 1.0 / 3.0])


def record(start: int, stop: int) -> Record:
    return Record({"numbers": NUMBERS}, {"start": start, "stop": stop})


def test_every_bit_comes_back(tmp_path):
    facts = {"text": "é", "values": NUMBERS.tolist(), "nothing": None, "yes": True}
    write_record(tmp_path / "a" / "b.npz", Record({"numbers": NUMBERS}, facts))
    found = read_record(tmp_path / "a" / "b.npz")
    assert found.arrays["numbers"].tobytes() == NUMBERS.tobytes()
    assert np.array(found.facts.pop("values")).tobytes() == NUMBERS.tobytes()
    assert found.facts == {"text": "é", "nothing": None, "yes": True}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.npz"]


def test_what_is_not_there_is_none(tmp_path):
    assert read_record(tmp_path / "none.npz") is None


def test_a_damaged_record_is_told_and_never_read(tmp_path):
    """Cut anywhere, or with a bit turned anywhere inside the numbers."""
    path = tmp_path / "a.npz"
    write_record(path, record(0, 1))
    sound = path.read_bytes()
    at = sound.index(NUMBERS.tobytes())
    turned = [
        sound[:i] + bytes([sound[i] ^ 1]) + sound[i + 1 :] for i in range(at, at + NUMBERS.nbytes)
    ]
    cut = [sound[:n] for n in range(0, len(sound), 50)]
    for damaged in turned + cut:
        path.write_bytes(damaged)
        with pytest.warns(StoreWarning, match=r"a\.npz is damaged .* computed again"):
            assert read_record(path) is None
    write_record(path, record(0, 1))
    assert read_record(path).facts["stop"] == 1


def test_reading_runs_no_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "trapped"),))

    with (tmp_path / "a.npz").open("wb") as file:
        facts = np.frombuffer(json.dumps({}).encode(), dtype=np.uint8)
        np.savez(file, numbers=np.array([Trap()], dtype=object), facts=facts)
    with pytest.warns(StoreWarning, match="is damaged"):
        assert read_record(tmp_path / "a.npz") is None
    assert not (tmp_path / "trapped").exists()


def test_arrays_of_objects_are_not_written(tmp_path):
    trap = Record({"numbers": np.array([None])}, {})
    with pytest.raises(TypeError, match=r"record.arrays=\['numbers'\]: hold Python objects"):
        write_record(tmp_path / "a.npz", trap)
    assert list(tmp_path.iterdir()) == []


def test_a_record_holds_its_arrays_and_nothing_else(tmp_path):
    """numpy 2.1 stores unknown keywords of savez, `allow_pickle` among them, as arrays."""
    write_record(tmp_path / "a.npz", record(0, 1))
    assert set(read_record(tmp_path / "a.npz").arrays) == set(record(0, 1).arrays)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"the store cannot write .*file.*choose another folder"):
        write_record(tmp_path / "file" / "a.npz", record(0, 1))


@pytest.mark.long
def test_a_process_killed_while_writing_leaves_the_old_record(tmp_path):
    path = tmp_path / "a.npz"
    write_record(path, record(0, 1))
    code = (
        "import os, signal, sys; import numpy as np; from pathlib import Path\n"
        "from sddp.cache.store import Record, write_record\n"
        "savez = np.savez\n"
        "def killed(file, **kw):\n"
        "    savez(file, **kw); file.flush(); file.truncate(200)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "np.savez = killed\n"
        "write_record(Path(sys.argv[1]), Record({'numbers': np.zeros(9)}, {}))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert ended.returncode == -9
    assert len(list(tmp_path.iterdir())) == 2
    assert read_record(path).arrays["numbers"].tobytes() == NUMBERS.tobytes()


def test_a_folder_hands_out_the_windows_up_to_the_first_gap(tmp_path):
    folder = RecordFolder(tmp_path / "cell")
    assert (folder.whole(), folder.parts(), folder.rows_done()) == (None, [], 0)
    for start, stop in ((0, 3), (3, 7), (9, 12)):
        folder.add(record(start, stop))
    assert [part.facts["stop"] for part in folder.parts()] == [3, 7]
    first = next(iter(sorted(folder.folder.glob("rows-000000*"))))
    first.write_bytes(first.read_bytes()[:99])
    with pytest.warns(StoreWarning):
        assert folder.parts() == []
    folder.finish(record(0, 12))
    assert folder.whole().facts["stop"] == 12
    assert [path.name for path in folder.folder.iterdir()] == ["whole.npz"]


def test_a_label_is_written_once_and_readable(tmp_path):
    RecordFolder(tmp_path).label({"lag": 1})
    RecordFolder(tmp_path).label({"lag": 2})
    assert json.loads(Path(tmp_path / "config.json").read_text()) == {"lag": 1}


def test_another_version_of_the_code_finds_other_entries(monkeypatch):
    now = store_key([1, 2])
    assert now == store_key([1, 2]) != store_key([1, 3])
    monkeypatch.setattr(store, "RESULTS_VERSION", store.RESULTS_VERSION + 1)
    assert store_key([1, 2]) != now
