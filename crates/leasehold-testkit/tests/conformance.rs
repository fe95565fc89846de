//! The conformance suite on SQLite always, and with the features `test-postgres`, `test-mariadb` and `test-mysql` on the
//! servers that `scripts/test` starts.

mod sqlite {
    leasehold_testkit::conformance!(sqlite);
}

#[cfg(feature = "test-postgres")]
mod postgres {
    leasehold_testkit::conformance!(postgres, "LEASEHOLD_TEST_POSTGRES");
}

#[cfg(feature = "test-mariadb")]
mod mariadb {
    leasehold_testkit::conformance!(mysql, "LEASEHOLD_TEST_MARIADB");
}

#[cfg(feature = "test-mysql")]
mod mysql {
    leasehold_testkit::conformance!(mysql, "LEASEHOLD_TEST_MYSQL");
}
