//! Where unpredictable bytes come from.

/// A source of cryptographically secure random bytes.
pub trait SecureRandom: Send + Sync + 'static {
    /// Fills `buffer`. Implementations that can fail abort the process instead of returning weak bytes.
    fn fill(&self, buffer: &mut [u8]);
}

impl dyn SecureRandom {
    /// `N` random bytes.
    pub fn array<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }
}
