"""The sweep file: its schema, its checks with line and column, and its expansion into runs."""
