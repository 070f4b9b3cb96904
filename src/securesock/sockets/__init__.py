"""What people import: SecureSocket, create_connection, create_server, and their asyncio twins."""
