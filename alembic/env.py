"""The environment of Alembic. It uses the open connection of the service, or else the settings."""

from alembic import context
from sqlalchemy import Connection

from service.database.connection import make_engine
from service.database.tables import Base
from service.settings import load_settings


def migrate(connection: Connection) -> None:
    """Run the migrations of the command in one transaction of the connection."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        compare_type=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


connection: Connection | None = context.config.attributes.get("connection")
if connection is not None:
    migrate(connection)
else:
    engine = make_engine(load_settings().storage.registry_url)
    with engine.begin() as opened:
        migrate(opened)
    engine.dispose()
