"""What Alembic runs to migrate: on the connection it is handed, in the transaction that is open there."""

from alembic import context

from nixmill.edge.database.migrate import VERSION_TABLE
from nixmill.edge.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
context.run_migrations()
