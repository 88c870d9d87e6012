"""What the lessons quote: recipes, experiments, tables of solvers, guidance and scaling, the classifier's training."""
