"""The history database: tables, migrations, and the doors `History` and `Archive` over them."""
