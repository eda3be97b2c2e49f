"""The couriers: e-mail, webhooks, Slack and its kin, Matrix. Each implements `nixmill.doors.server.Courier`."""
