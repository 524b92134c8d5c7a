"""From records to what people read: tables, comparisons, details."""
