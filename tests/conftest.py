"""A tiny model on disk, read back by the real loader, and what is known of it."""

from __future__ import annotations

import pytest

from lab.data import Data
from models import catalog
from models.model import Model
from tests import families
from tests.painting import tiny_ddt, tiny_painter, tiny_pipeline  # noqa: F401  fixtures for every test

PROMPT, SUBJECT = "the capital of Eiffel Tower is a city", "Eiffel Tower"


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    families.save("llama", folder)
    return str(folder)


@pytest.fixture
def model(tiny_folder) -> Model:
    return catalog.load(tiny_folder)


@pytest.fixture
def data() -> Data:
    return Data(("Eiffel Tower", "France", "Anna Marlow"))
