"""Events over Celery and kombu: RabbitMQ in deployment, Valkey in the embedded default.

The broker delivers at least once. The effect happens once because the database says so.
"""
