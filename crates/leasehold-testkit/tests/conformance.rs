//! The conformance suite on SQLite always, and with the features `test-postgres`, `test-postgres18`, `test-mariadb` and `test-mysql` on the
//! servers that `scripts/test` starts.

mod sqlite {
    leasehold_testkit::conformance!(sqlite);
}

#[cfg(feature = "test-postgres")]
mod postgres {
    leasehold_testkit::conformance!(postgres, "LEASEHOLD_TEST_POSTGRES");
}

#[cfg(feature = "test-postgres18")]
mod postgres_18 {
    leasehold_testkit::conformance!(postgres, "LEASEHOLD_TEST_POSTGRES18");
}

#[cfg(feature = "test-mariadb")]
mod mariadb {
    leasehold_testkit::conformance!(mysql, "LEASEHOLD_TEST_MARIADB");
}

#[cfg(feature = "test-mysql")]
mod mysql {
    leasehold_testkit::conformance!(mysql, "LEASEHOLD_TEST_MYSQL");
}
