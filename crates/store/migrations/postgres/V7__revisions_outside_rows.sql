-- As for the ciphertext of records.
alter table revisions alter ciphertext set storage external;
