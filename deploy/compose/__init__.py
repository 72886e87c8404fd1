"""What docker-compose.yml needs beside itself."""
