"""Operations: the steps against connectors, their statuses, and trying them again."""
