"""Files are written whole or not at all."""

from __future__ import annotations

import pytest

from sddp.files import written_whole


def test_a_place_that_cannot_be_written_to_is_named_as_it_was_given(tmp_path):
    target = tmp_path / "missing" / "report.html"
    with pytest.raises(FileNotFoundError) as caught, written_whole(target):
        pass
    assert caught.value.filename == str(target)


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    target = tmp_path / "report.html"
    target.write_text("old")
    with pytest.raises(TypeError), written_whole(target) as beside:
        beside.write_text(5)  # type: ignore[arg-type]
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
