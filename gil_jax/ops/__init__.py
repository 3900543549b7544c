"""Operations below the networks and losses: convolution, products of pairs, sums over triplets."""
