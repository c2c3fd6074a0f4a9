"""What models need is read from whatever holds them."""

from __future__ import annotations

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import registry

from gate.drift.models import tables_of
from gate.image.expectations import ExpectedTable

ITEMS = ExpectedTable(None, "item", ("id", "stock"))


def test_flask_sqlalchemy_names_columns_as_its_model_maps_them() -> None:
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db = SQLAlchemy(app)

    class Item(db.Model):  # type: ignore[name-defined,misc] # as its users write it
        id = db.Column(db.Integer, primary_key=True)
        stock = db.Column(db.Integer)

    db.metadata.tables["item"].append_column(db.Column("old", db.Integer))
    for models in (db, db.Model, [db], Item.registry):
        assert tables_of(models) == (ITEMS,)
    assert tables_of(db.metadata) == (ITEMS._replace(columns=("id", "stock", "old")),)


def test_a_holder_of_a_metadata_that_is_no_registry_counts_as_its_metadata() -> None:
    class Holder:
        mappers = property(lambda _: [])
        registry = registry
        metadata = registry().metadata

    assert tables_of(Holder()) == ()
