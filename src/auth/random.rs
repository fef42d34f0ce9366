//! Random numbers of the operating system.

/// Returns `BYTES` random bytes in hexadecimal.
///
/// # Errors
/// A sentence of the system, when it has no random numbers.
pub fn random_hex<const BYTES: usize>() -> Result<String, String> {
    let mut random = [0_u8; BYTES];
    getrandom::fill(&mut random).map_err(|e| e.to_string())?;
    Ok(hex::encode(random))
}
