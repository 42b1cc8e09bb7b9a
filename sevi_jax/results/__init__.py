"""What comes out: answers, reports, figures, pages."""
