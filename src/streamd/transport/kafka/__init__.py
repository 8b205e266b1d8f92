"""Apache Kafka. aiokafka is used here only.

Data plane, over connections of our own: `reader` reads one partition, `transactional` is a task's checkpoint
(`batch_commit` for at least once), `outbox` writes, `positions` and `position_store` keep where a task is, `client`,
`cluster`, `coordinator` and `protocol` speak to the brokers. Control plane: `settings`, `admin`, `membership`.

Diagnosis: `inspection` asks for facts (`inspect_protocol`), `doctor`, `doctor_topics` and `doctor_transactions` judge
them, `examination` does all of it; `stability` sees what open transactions hold back, `rivals` who else runs our tasks.
"""
