"""What a run will take, before it is begun: parameters, operations, memory, disk and time; it trains nothing."""
