"""What securesock costs beside what people use today, measured side by side; ``python -m benchmarks`` runs it all."""
