"""What commands write: tables, figures, pages."""
