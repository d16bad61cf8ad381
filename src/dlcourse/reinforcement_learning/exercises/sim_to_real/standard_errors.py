"""122.1b: how sure a least-squares estimate is."""

import numpy as np

from dlcourse.exercises import Exercise, Mistake


def standard_errors(J, residual):
    """Return the standard error of each parameter, (p,).

    J: (n, p), derivative of the residual by each parameter at the estimate, of rank p;
    residual: (n,), n > p.
    """
    n, p = J.shape
    variance = residual @ residual / (n - p)  # σ²
    return np.sqrt(variance * np.diag(np.linalg.inv(J.T @ J)))  # (p,)


def cases(rng):
    """Columns of unlike size that lean towards each other."""
    p = int(rng.integers(2, 4))
    n = int(rng.integers(p + 3, p + 9))
    J = rng.standard_normal((n, p)) + 1.5 * rng.standard_normal((n, 1))
    return {"J": J * 10.0 ** rng.uniform(-1, 1, p), "residual": 0.3 * rng.standard_normal(n)}


def edges():
    """One parameter; one number more than parameters; a perfect fit; columns at right angles."""
    J = np.sin(np.arange(10.0) ** 1.5).reshape(5, 2)
    residual = np.cos(np.arange(5.0))
    return {
        "one parameter": {"J": J[:, :1], "residual": residual},
        "one number more than parameters": {"J": J[:3], "residual": residual[:3]},
        "a perfect fit": {"J": J, "residual": np.zeros(5)},
        "columns at right angles": {
            "J": np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 1.0]]),
            "residual": np.array([0.3, 0.1, -0.2]),
        },
    }


def listing_one_number(J, residual):
    return np.full(J.shape[1], np.abs(residual).mean())


def each_alone(J, residual):
    n, p = J.shape
    return np.sqrt(residual @ residual / (n - p) / (J**2).sum(0))


def counts_all(J, residual):
    n, p = J.shape
    return standard_errors(J, residual) * np.sqrt((n - p) / n)


def no_root(J, residual):
    return standard_errors(J, residual) ** 2


def without_the_noise(J, residual):
    return np.sqrt(np.diag(np.linalg.inv(J.T @ J)))


def of_the_mean(J, residual):
    return standard_errors(J, residual) / np.sqrt(len(J))


EXERCISE = Exercise(
    key="122.1b.standard-errors",
    title="How sure is an estimate?",
    difficulty="extend",
    statement=r"""
Near a least-squares estimate the residual is linear in the parameters, with Jacobian $J$. With
independent errors of equal variance, the estimate's covariance is

$$
\Sigma = \sigma^2 (J^\top J)^{-1}, \qquad \sigma^2 = \frac{\lVert r \rVert^2}{n - p} .
$$

Give the standard error of each parameter.
""",
    imports="import numpy as np",
    reference=standard_errors,
    cases=cases,
    edges=edges,
    rtol=1e-5,
    hints=[
        "Standard errors are roots of the diagonal of the covariance.",
        "Invert the whole matrix first, then take its diagonal: the order matters.",
        "n − p, not n: p numbers were spent on the fit.",
    ],
    mistakes={
        "listing_one_number": Mistake(
            answer=listing_one_number,
            hint="one mean residual for all parameters says nothing about any one of them.",
        ),
        "each_alone": Mistake(
            answer=each_alone,
            hint="you invert the diagonal alone, as if the other parameters were known. Two that do "
            "nearly the same hide each other.",
        ),
        "counts_all": Mistake(
            answer=counts_all, hint="the variance is over n − p, since p numbers were fitted."
        ),
        "no_root": Mistake(answer=no_root, hint="these are variances: take the root."),
        "without_the_noise": Mistake(
            answer=without_the_noise, hint="the residual's size is missing: σ² comes before the inverse."
        ),
        "of_the_mean": Mistake(
            answer=of_the_mean,
            hint="you divide by √n once more. The number of data is in JᵀJ already.",
        ),
    },
)
