"""The forecast SMS: forecasts, subscribers, imports, messages."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Where the role may not make them, whoever runs the server has made them before.
    op.execute("CREATE EXTENSION IF NOT EXISTS cube")
    op.execute("CREATE EXTENSION IF NOT EXISTS earthdistance")
    op.create_table('forecasts',
    sa.Column('gid', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('lat', sa.Double(), nullable=False),
    sa.Column('lon', sa.Double(), nullable=False),
    sa.Column('fcat24', sa.Text(), nullable=False),
    sa.Column('fcat48', sa.Text(), nullable=False),
    sa.Column('is_active', sa.Boolean(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), nullable=False),
    sa.CheckConstraint('lat BETWEEN -90 AND 90', name=op.f('ck_forecasts_lat')),
    sa.CheckConstraint('lon BETWEEN -180 AND 180', name=op.f('ck_forecasts_lon')),
    sa.PrimaryKeyConstraint('gid', name=op.f('pk_forecasts'))
    )
    op.create_index('ix_forecasts_earth', 'forecasts', [sa.literal_column('ll_to_earth(lat, lon)')], unique=False, postgresql_using='gist', postgresql_where=sa.text('is_active'))
    op.create_table('sms_stops',
    sa.Column('msisdn', sa.Text(), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.Column('received_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('msisdn', name=op.f('pk_sms_stops'))
    )
    op.create_table('tasks',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('file_name', sa.Text(), nullable=True),
    sa.Column('file_bytes', sa.BigInteger(), nullable=True),
    sa.Column('encoding', sa.Text(), nullable=True),
    sa.Column('delimiter', sa.Text(), nullable=True),
    sa.Column('total', sa.BigInteger(), nullable=True),
    sa.Column('done', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('created', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('updated', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('skipped', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('failed', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('next_row', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('has_file', sa.Boolean(), nullable=False),
    sa.Column('error', sa.Text(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('due_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('claim_id', sa.Uuid(), nullable=True),
    sa.Column('claimed_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('attempts', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.CheckConstraint("(state IN ('pending', 'started')) = (due_at IS NOT NULL)", name=op.f('ck_tasks_unfinished_is_due')),
    sa.CheckConstraint("kind IN ('forecasts', 'additions', 'cancellations', 'updates', 'assignments')", name=op.f('ck_tasks_kind')),
    sa.CheckConstraint("state IN ('pending', 'started', 'success', 'failure', 'canceled')", name=op.f('ck_tasks_state')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_tasks'))
    )
    op.create_index('ix_tasks_created', 'tasks', ['created_at'], unique=False)
    op.create_index('ix_tasks_due_at', 'tasks', ['due_at'], unique=False, postgresql_where=sa.text('due_at IS NOT NULL'))
    op.create_index('ix_tasks_finished', 'tasks', ['finished_at'], unique=False, postgresql_where=sa.text('has_file'))
    op.create_table('subscribers',
    sa.Column('id', sa.BigInteger(), nullable=False),
    sa.Column('customer_id', sa.BigInteger(), nullable=False),
    sa.Column('msisdn', sa.Text(), nullable=False),
    sa.Column('lat', sa.Double(), nullable=False),
    sa.Column('lon', sa.Double(), nullable=False),
    sa.Column('zone', sa.Text(), nullable=False),
    sa.Column('language', sa.Text(), nullable=False),
    sa.Column('plan', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('forecast_gid', sa.BigInteger(), nullable=True),
    sa.Column('distance_m', sa.Double(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('canceled_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('billing_due_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('next_message_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('paid_until', sa.DateTime(timezone=True), nullable=True),
    sa.CheckConstraint("language IN ('en', 'tr', 'ru')", name=op.f('ck_subscribers_language')),
    sa.CheckConstraint("plan IN ('daily', 'weekly')", name=op.f('ck_subscribers_plan')),
    sa.CheckConstraint("state IN ('active', 'canceled', 'stopped')", name=op.f('ck_subscribers_state')),
    sa.CheckConstraint('lat BETWEEN -90 AND 90', name=op.f('ck_subscribers_lat')),
    sa.CheckConstraint('lon BETWEEN -180 AND 180', name=op.f('ck_subscribers_lon')),
    sa.ForeignKeyConstraint(['customer_id'], ['customers.id'], name=op.f('fk_subscribers_customer_id')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_subscribers')),
    sa.UniqueConstraint('customer_id', name=op.f('uq_subscribers_customer_id')),
    sa.UniqueConstraint('msisdn', name=op.f('uq_subscribers_msisdn'))
    )
    op.create_index('ix_subscribers_forecast', 'subscribers', ['forecast_gid'], unique=False)
    op.create_index('ix_subscribers_billing_due', 'subscribers', ['billing_due_at'], unique=False, postgresql_where=sa.text('billing_due_at IS NOT NULL'))
    op.create_index('ix_subscribers_next_message', 'subscribers', ['next_message_at', 'id'], unique=False, postgresql_where=sa.text('next_message_at IS NOT NULL'))
    op.create_table('task_chunks',
    sa.Column('task_id', sa.Uuid(), nullable=False),
    sa.Column('number', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('content', sa.LargeBinary(), nullable=False),
    sa.ForeignKeyConstraint(['task_id'], ['tasks.id'], name=op.f('fk_task_chunks_task_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('task_id', 'number', name=op.f('pk_task_chunks'))
    )
    op.create_table('task_errors',
    sa.Column('id', sa.BigInteger(), nullable=False),
    sa.Column('task_id', sa.Uuid(), nullable=False),
    sa.Column('row', sa.BigInteger(), nullable=False),
    sa.Column('column', sa.Text(), nullable=False),
    sa.Column('reason', sa.Text(), nullable=False),
    sa.Column('value', sa.Text(), nullable=False),
    sa.Column('is_note', sa.Boolean(), nullable=False),
    sa.ForeignKeyConstraint(['task_id'], ['tasks.id'], name=op.f('fk_task_errors_task_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_task_errors')),
    sa.UniqueConstraint('task_id', 'row', 'column', name=op.f('uq_task_errors_task_id_row_column'))
    )
    op.create_table('messages',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('subscriber_id', sa.BigInteger(), nullable=True),
    sa.Column('msisdn', sa.Text(), nullable=False),
    sa.Column('local_date', sa.Date(), nullable=False),
    sa.Column('text', sa.Text(), nullable=False),
    sa.Column('state', sa.Text(), nullable=False),
    sa.Column('gateway', sa.Text(), nullable=True),
    sa.Column('gateway_ref', sa.Text(), nullable=True),
    sa.Column('last_error', sa.Text(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('accepted_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('delivered_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('failed_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('due_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('claim_id', sa.Uuid(), nullable=True),
    sa.Column('claimed_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('attempts', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.CheckConstraint("state IN ('pending', 'accepted', 'delivered', 'failed', 'expired')", name=op.f('ck_messages_state')),
    sa.ForeignKeyConstraint(['subscriber_id'], ['subscribers.id'], name=op.f('fk_messages_subscriber_id'), ondelete='SET NULL'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_messages')),
    sa.UniqueConstraint('msisdn', 'local_date', name=op.f('uq_messages_msisdn_local_date'))
    )
    op.create_index('ix_messages_day', 'messages', ['local_date', 'state'], unique=False)
    op.create_index('ix_messages_state_due_at', 'messages', ['state', 'due_at'], unique=False, postgresql_where=sa.text('due_at IS NOT NULL'))
    op.create_index('ix_messages_subscriber', 'messages', ['subscriber_id', 'local_date'], unique=False)
    op.create_table('message_events',
    sa.Column('id', sa.BigInteger(), nullable=False),
    sa.Column('message_id', sa.Uuid(), nullable=True),
    sa.Column('msgid', sa.Text(), nullable=False),
    sa.Column('kind', sa.Text(), nullable=False),
    sa.Column('gateway', sa.Text(), nullable=True),
    sa.Column('status', sa.Text(), nullable=False),
    sa.Column('body', sa.Text(), nullable=False),
    sa.Column('received_at', sa.DateTime(timezone=True), nullable=False),
    sa.CheckConstraint("kind IN ('answer', 'receipt')", name=op.f('ck_message_events_kind')),
    sa.ForeignKeyConstraint(['message_id'], ['messages.id'], name=op.f('fk_message_events_message_id'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_message_events'))
    )
    op.create_index('ix_message_events_message', 'message_events', ['message_id'], unique=False)
    op.create_index('uq_message_events_receipt', 'message_events', ['msgid', 'status'], unique=True, postgresql_where=sa.text("kind = 'receipt'"))
    op.create_table('message_runs',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('reached', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('made', sa.BigInteger(), server_default=sa.text('0'), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('due_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('claim_id', sa.Uuid(), nullable=True),
    sa.Column('claimed_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('attempts', sa.Integer(), server_default=sa.text('0'), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_message_runs'))
    )
    op.create_index('ix_message_runs_due_at', 'message_runs', ['due_at'], unique=False, postgresql_where=sa.text('due_at IS NOT NULL'))
    op.add_column('packages', sa.Column('charged', sa.Text(), server_default='on_the_day', nullable=False))
    op.create_check_constraint('charged', 'packages', "charged IN ('on_the_day', 'at_the_end')")


def downgrade() -> None:
    op.drop_constraint(op.f('ck_packages_charged'), 'packages')
    op.drop_column('packages', 'charged')
    op.drop_table('message_runs')
    op.drop_index('uq_message_events_receipt', table_name='message_events', postgresql_where=sa.text("kind = 'receipt'"))
    op.drop_index('ix_message_events_message', table_name='message_events')
    op.drop_table('message_events')
    op.drop_index('ix_messages_subscriber', table_name='messages')
    op.drop_index('ix_messages_state_due_at', table_name='messages', postgresql_where=sa.text('due_at IS NOT NULL'))
    op.drop_index('ix_messages_day', table_name='messages')
    op.drop_table('messages')
    op.drop_table('task_errors')
    op.drop_table('task_chunks')
    op.drop_index('ix_subscribers_forecast', table_name='subscribers')
    op.drop_table('subscribers')
    op.drop_index('ix_tasks_finished', table_name='tasks', postgresql_where=sa.text('has_file'))
    op.drop_index('ix_tasks_due_at', table_name='tasks', postgresql_where=sa.text('due_at IS NOT NULL'))
    op.drop_index('ix_tasks_created', table_name='tasks')
    op.drop_table('tasks')
    op.drop_table('sms_stops')
    op.drop_index('ix_forecasts_earth', table_name='forecasts', postgresql_using='gist', postgresql_where=sa.text('is_active'))
    op.drop_table('forecasts')
