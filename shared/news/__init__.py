"""News between the processes of one service, through Valkey: heard now or never."""
