"""Proven addresses, organisations, personal tokens, second factors, OAuth, erasure, audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# The trail is added to and never changed: not even the service's own role may. Alembic does not
# compare triggers; a test does.
_AUDIT_TRIGGERS = (
    """
    create function audit_refuses_changes() returns trigger language plpgsql as $$
    begin
        raise exception 'the audit trail is never changed'
            using errcode = 'insufficient_privilege';
    end $$
    """,
    """
    create trigger audit_event_is_insert_only before update or delete or truncate on audit_event
    for each statement execute function audit_refuses_changes()
    """,
    """
    create trigger audit_link_is_insert_only before update or delete or truncate on audit_link
    for each statement execute function audit_refuses_changes()
    """,
    # However an event is added, the chain hears of it in the same transaction.
    """
    create function audit_awaits_link() returns trigger language plpgsql as $$
    begin
        insert into audit_unlinked (event_id) select id from added on conflict do nothing;
        return null;
    end $$
    """,
    """
    create trigger audit_event_awaits_link after insert on audit_event
    referencing new table as added
    for each statement execute function audit_awaits_link()
    """,
)


def upgrade() -> None:
    op.create_table(
        "audit_event",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=True),
        sa.Column("actor_id", sa.UUID(), nullable=True),
        sa.Column("organisation_id", sa.UUID(), nullable=True),
        sa.Column("facts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint(
            "at >= '2000-01-01Z' and at < '9999-01-01Z'", name=op.f("ck_audit_event_sensible_time")
        ),
        sa.CheckConstraint(
            "char_length(action) between 1 and 100", name=op.f("ck_audit_event_action_length")
        ),
        sa.CheckConstraint(
            "jsonb_typeof(facts) = 'object'", name=op.f("ck_audit_event_named_facts")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_event")),
    )
    op.create_index(
        "ix_audit_event_organisation_id_id", "audit_event", ["organisation_id", "id"], unique=False
    )
    op.create_index("ix_audit_event_user_id_id", "audit_event", ["user_id", "id"], unique=False)
    op.create_table(
        "ended_credential",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ended_credential")),
    )
    op.create_index("ix_ended_credential_ended_at", "ended_credential", ["ended_at"], unique=False)
    op.create_table(
        "erasure",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("receipt_hash", sa.LargeBinary(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasure")),
        sa.UniqueConstraint("receipt_hash", name=op.f("uq_erasure_receipt_hash")),
        sa.UniqueConstraint("user_id", name=op.f("uq_erasure_user_id")),
    )
    op.create_table(
        "oauth_client",
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("redirect_uris", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_oauth_client")),
    )
    op.create_table(
        "organisation",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("seats", sa.Integer(), nullable=False),
        sa.Column("subscription_revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "char_length(name) between 1 and 100", name=op.f("ck_organisation_name_length")
        ),
        sa.CheckConstraint("seats >= 1", name=op.f("ck_organisation_some_seats")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organisation")),
    )
    op.create_table(
        "outgoing_mail",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
        sa.Column("sealed_facts", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outgoing_mail")),
    )
    op.create_index("ix_outgoing_mail_due_at", "outgoing_mail", ["due_at"], unique=False)
    op.create_table(
        "audit_link",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("key_version", sa.Integer(), nullable=False),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["event_id"], ["audit_event.id"], name=op.f("fk_audit_link_event_id_audit_event")
        ),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_audit_link")),
        sa.UniqueConstraint("event_id", name=op.f("uq_audit_link_event_id")),
    )
    op.create_table(
        "audit_origin",
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=True),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["event_id"], ["audit_event.id"], name=op.f("fk_audit_origin_event_id_audit_event")
        ),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_audit_origin")),
    )
    op.create_index("ix_audit_origin_user_id", "audit_origin", ["user_id"], unique=False)
    op.create_table(
        "audit_unlinked",
        sa.Column("event_id", sa.UUID(), nullable=False),
        sa.Column(
            "noted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["event_id"], ["audit_event.id"], name=op.f("fk_audit_unlinked_event_id_audit_event")
        ),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_audit_unlinked")),
    )
    for statement in _AUDIT_TRIGGERS:
        op.execute(statement)
    op.create_table(
        "authorization_code",
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("code_challenge", sa.Text(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("authenticated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("methods", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("sign_in_id", sa.UUID(), nullable=True),
        sa.ForeignKeyConstraint(
            ["client_id"],
            ["oauth_client.client_id"],
            name=op.f("fk_authorization_code_client_id_oauth_client"),
            ondelete="cascade",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["user_account.id"],
            name=op.f("fk_authorization_code_user_id_user_account"),
            ondelete="cascade",
        ),
        sa.PrimaryKeyConstraint("code_hash", name=op.f("pk_authorization_code")),
    )
    op.create_index(
        "ix_authorization_code_expires_at", "authorization_code", ["expires_at"], unique=False
    )
    op.create_table(
        "erasure_acknowledgement",
        sa.Column("erasure_id", sa.UUID(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("forgotten_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["erasure_id"],
            ["erasure.id"],
            name=op.f("fk_erasure_acknowledgement_erasure_id_erasure"),
            ondelete="cascade",
        ),
        sa.PrimaryKeyConstraint("erasure_id", "service", name=op.f("pk_erasure_acknowledgement")),
    )
    op.create_table(
        "invitation",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("organisation_id", sa.UUID(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("invited_by", sa.UUID(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "role in ('owner', 'admin', 'billing', 'member')", name=op.f("ck_invitation_known_role")
        ),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["organisation.id"],
            name=op.f("fk_invitation_organisation_id_organisation"),
            ondelete="cascade",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invitation")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_invitation_token_hash")),
    )
    op.create_index("ix_invitation_expires_at", "invitation", ["expires_at"], unique=False)
    op.create_index(
        "ix_invitation_organisation_id", "invitation", ["organisation_id", "id"], unique=False
    )
    op.create_table(
        "mailed_proof",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "purpose in ('verify_email', 'change_email', 'reset_password')",
            name=op.f("ck_mailed_proof_known_purpose"),
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["user_account.id"],
            name=op.f("fk_mailed_proof_user_id_user_account"),
            ondelete="cascade",
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_mailed_proof")),
    )
    op.create_index("ix_mailed_proof_expires_at", "mailed_proof", ["expires_at"], unique=False)
    op.create_index("ix_mailed_proof_user_id", "mailed_proof", ["user_id", "purpose"], unique=False)
    op.create_table(
        "membership",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("organisation_id", sa.UUID(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seated_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "role in ('owner', 'admin', 'billing', 'member')", name=op.f("ck_membership_known_role")
        ),
        sa.ForeignKeyConstraint(
            ["organisation_id"],
            ["organisation.id"],
            name=op.f("fk_membership_organisation_id_organisation"),
            ondelete="cascade",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["user_account.id"],
            name=op.f("fk_membership_user_id_user_account"),
            ondelete="cascade",
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_membership")),
    )
    op.create_index(
        "ix_membership_organisation_id",
        "membership",
        ["organisation_id", "joined_at"],
        unique=False,
    )
    op.create_table(
        "personal_token",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "char_length(name) between 1 and 100", name=op.f("ck_personal_token_name_length")
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["user_account.id"],
            name=op.f("fk_personal_token_user_id_user_account"),
            ondelete="cascade",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_personal_token")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_personal_token_token_hash")),
    )
    op.create_index("ix_personal_token_expires_at", "personal_token", ["expires_at"], unique=False)
    op.create_index(
        "ix_personal_token_user_id_id", "personal_token", ["user_id", "id"], unique=False
    )
    op.create_table(
        "recovery_code",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["user_account.id"],
            name=op.f("fk_recovery_code_user_id_user_account"),
            ondelete="cascade",
        ),
        sa.PrimaryKeyConstraint("user_id", "code_hash", name=op.f("pk_recovery_code")),
    )
    op.create_table(
        "totp",
        sa.Column("user_id", sa.UUID(), nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["user_account.id"],
            name=op.f("fk_totp_user_id_user_account"),
            ondelete="cascade",
        ),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_totp")),
    )
    op.add_column(
        "login_failure", sa.Column("blocked_until", sa.DateTime(timezone=True), nullable=True)
    )
    op.add_column("sign_in", sa.Column("authenticated_at", sa.DateTime(timezone=True)))
    op.add_column("sign_in", sa.Column("methods", sa.ARRAY(sa.Text())))
    op.execute("update sign_in set authenticated_at = created_at, methods = '{pwd}'")
    op.alter_column("sign_in", "authenticated_at", nullable=False)
    op.alter_column("sign_in", "methods", nullable=False)
    op.add_column("sign_in", sa.Column("client_id", sa.Text(), nullable=True))
    op.add_column("sign_in", sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=True))
    op.add_column(
        "user_account", sa.Column("last_signed_in_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.drop_constraint(op.f("uq_user_account_email"), "user_account", type_="unique")
    op.create_index("ix_user_account_email", "user_account", ["email"], unique=False)
    op.create_index(
        "ux_user_account_verified_email",
        "user_account",
        ["email"],
        unique=True,
        postgresql_where=sa.text("email_verified"),
    )


def downgrade() -> None:
    op.drop_index(
        "ux_user_account_verified_email",
        table_name="user_account",
        postgresql_where=sa.text("email_verified"),
    )
    op.drop_index("ix_user_account_email", table_name="user_account")
    op.create_unique_constraint(
        op.f("uq_user_account_email"),
        "user_account",
        ["email"],
        postgresql_nulls_not_distinct=False,
    )
    op.drop_column("user_account", "last_signed_in_at")
    op.drop_column("sign_in", "scopes")
    op.drop_column("sign_in", "client_id")
    op.drop_column("sign_in", "methods")
    op.drop_column("sign_in", "authenticated_at")
    op.drop_column("login_failure", "blocked_until")
    op.drop_table("totp")
    op.drop_table("recovery_code")
    op.drop_index("ix_personal_token_user_id_id", table_name="personal_token")
    op.drop_index("ix_personal_token_expires_at", table_name="personal_token")
    op.drop_table("personal_token")
    op.drop_index("ix_membership_organisation_id", table_name="membership")
    op.drop_table("membership")
    op.drop_index("ix_mailed_proof_user_id", table_name="mailed_proof")
    op.drop_index("ix_mailed_proof_expires_at", table_name="mailed_proof")
    op.drop_table("mailed_proof")
    op.drop_index("ix_invitation_organisation_id", table_name="invitation")
    op.drop_index("ix_invitation_expires_at", table_name="invitation")
    op.drop_table("invitation")
    op.drop_table("erasure_acknowledgement")
    op.drop_index("ix_authorization_code_expires_at", table_name="authorization_code")
    op.drop_table("authorization_code")
    op.drop_table("audit_unlinked")
    op.drop_index("ix_audit_origin_user_id", table_name="audit_origin")
    op.drop_table("audit_origin")
    op.drop_table("audit_link")
    op.drop_index("ix_outgoing_mail_due_at", table_name="outgoing_mail")
    op.drop_table("outgoing_mail")
    op.drop_table("organisation")
    op.drop_table("oauth_client")
    op.drop_table("erasure")
    op.drop_index("ix_ended_credential_ended_at", table_name="ended_credential")
    op.drop_table("ended_credential")
    op.drop_index("ix_audit_event_user_id_id", table_name="audit_event")
    op.drop_index("ix_audit_event_organisation_id_id", table_name="audit_event")
    op.drop_table("audit_event")
    op.execute("drop function audit_awaits_link, audit_refuses_changes")
