"""What the lessons quote: recipes, experiments, tables of solvers, guidance and scaling, the judge's training."""
