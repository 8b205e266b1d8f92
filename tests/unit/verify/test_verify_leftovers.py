"""What a killed verification has left is found once its owner is gone, and nothing else is taken for it."""

from __future__ import annotations

import tempfile

import pytest

from streamd.verify.leftovers import Claim, Folder, delete_leftovers, leftovers


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Folder.new()


def test_a_folder_whose_owner_lives_is_nobodys(folder):
    assert list(leftovers()) == []
    folder.remove()


async def test_a_folder_whose_owner_is_gone_is_deleted(folder, tmp_path):
    folder.close()
    assert await delete_leftovers(None) == [folder.claim.prefix]
    assert list(tmp_path.iterdir()) == []


async def test_what_is_in_another_kafka_stays(folder):
    folder.write(Claim(folder.claim.prefix, "kafka:9092", (f"streamd.{folder.claim.prefix}-a.orders",)))
    (folder.path / "a").mkdir()
    folder.keep_claim()
    assert await delete_leftovers(None) == []
    assert sorted(path.name for path in folder.path.iterdir()) == ["claim.json", "lock"]


@pytest.mark.parametrize(
    "claim", [Claim("streamd-verify-"), Claim("orders"), Claim("streamd-verify-00000000", "", ("orders",))]
)
async def test_a_claim_to_anything_else_is_none(folder, claim):
    folder.write(claim)
    folder.close()
    assert await delete_leftovers(None) == []
    assert folder.path.exists()


async def test_other_folders_of_that_name_stay(folder, tmp_path):
    folder.remove()
    (tmp_path / "streamd-verify-00000000-x").mkdir()
    (tmp_path / "streamd-verify-11111111-x").symlink_to(tmp_path / "streamd-verify-00000000-x")
    assert await delete_leftovers(None) == []
    assert len(list(tmp_path.iterdir())) == 2
